# The whole life of the project in a few words: reproduce, test, lint, ui. Needs Python 3.11, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export RAY_USAGE_STATS_ENABLED := 0
export AWS_EC2_METADATA_DISABLED := true
# Without bytecode on disk each of a thousand processes would compile what it imports: uv installs none.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install reproduce quick test coverage test-slow test-all test-oldest environments test-312 test-313 lint docs ui lock clean

help:  ## show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## make the environment from the lock file

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, found %d.%d: make PYTHON=/path/to/python3.11" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing about 200 packages from requirements.lock (one to three minutes) ..."
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

reproduce: install  ## run the whole pipeline of params.yaml and print a summary
	$(BIN)/dvc repro
	@$(BIN)/bus-mlops summary

# Three files at a time, since a third of a test's time is waiting, in the order of tests/conftest.py; alone, one after
# the other, what counts seconds.
PYTEST := $(BIN)/python -m pytest
FILES := --numprocesses 3 --dist loadfile --no-loadscope-reorder

quick: install  ## the tests that need no TensorFlow, in a minute
	$(PYTEST) $(FILES) --without-tensorflow -m 'not slow and not pipeline'

test: install  ## tests and docstring examples, about eleven minutes on two idle cores
	$(PYTEST) $(FILES) --doctest-modules bus_mlops tests

# Tracing makes Python's own part of a test a third slower, too much beside the slow tests in one hour: run it before a release.
coverage: install  ## the same, counting the lines that they run: nine of ten at least
	$(PYTEST) $(FILES) --cov --doctest-modules bus_mlops tests

# The files in which a mark stands: the others would be imported in vain.
marked = $(shell grep -rl --include='test_*.py' 'mark\.$(1)\b' tests)

# What Ray, Keras and servers warn of while they train is no error there: it differs between machines.
test-slow: install  ## the tests that make test leaves out
	$(PYTEST) $(FILES) -W default -m 'slow and not alone' $(call marked,slow)
	$(PYTEST) -W default -m 'slow and alone' $(call marked,alone)

test-all: test test-slow test-oldest  ## all tests, on the oldest versions and on newer Pythons too

# Without TensorFlow, which has one allowed version: what reads, splits, measures, judges and predicts.
ROOMS := tests/test_imports.py $(addprefix tests/,config consumer dataset evaluation gate images sources)
UNTRAINED := -m pytest $(FILES) --without-tensorflow --hypothesis-profile brief $(ROOMS)
# The first that starts: a shim of pyenv for a version that is not active does not.
starting = $(shell for python in python$(1) $(HOME)/.pyenv/versions/$(1)*/bin/python$(1); do \
    if $$python -c '' 2> /dev/null; then echo $$python; break; fi; done)
PYTHON312 ?= $(call starting,3.12)
PYTHON313 ?= $(call starting,3.13)

test-oldest: .venv-oldest/.installed  ## the lowest allowed versions, and Python 3.12 and 3.13 where there are
	.venv-oldest/bin/python $(UNTRAINED)
	@if test -n "$(PYTHON312)"; then $(MAKE) --no-print-directory test-312; \
	else echo "SKIPPED: Python 3.12 is not here, so nothing was tested on it: make test-312 PYTHON312=/path/to/python3.12"; fi
	@if test -n "$(PYTHON313)"; then $(MAKE) --no-print-directory test-313; \
	else echo "SKIPPED: Python 3.13 is not here, so nothing was tested on it: make test-313 PYTHON313=/path/to/python3.13"; fi

NEWER := $(if $(PYTHON312),.venv-312/.installed) $(if $(PYTHON313),.venv-313/.installed)
environments: .venv-oldest/.installed $(NEWER)  ## what make test-oldest runs in, made beforehand

test-312: .venv-312/.installed
	.venv-312/bin/python $(UNTRAINED)

# What consumers run: they are the ones who choose their Python.
test-313: .venv-313/.installed
	.venv-313/bin/python -m pytest $(FILES) --without-tensorflow $(addprefix tests/,consumer images)

.venv-oldest/.installed: pyproject.toml | install
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest --resolution lowest-direct --editable '.[pipeline,test]'
	@touch $@

.venv-312/.installed .venv-313/.installed: .venv-%/.installed: pyproject.toml requirements.lock | install
	$(BIN)/uv venv --quiet --clear --python $(PYTHON$*) .venv-$*
	$(BIN)/uv pip install --quiet --python .venv-$* --constraints requirements.lock --editable '.[pipeline,test]'
	@touch $@

# A mirror of advisories, as the note says that stands in its place: no network is asked.
ADVISORIES ?=

lint: install  ## ruff, mypy, the contracts of imports, bandit, and pip-audit (ADVISORIES=all.zip)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy bus_mlops pipelines benchmarks tests docs/generate
	$(BIN)/lint-imports
	$(BIN)/python tests/helpers/bandit_beside_ruff.py bus_mlops pipelines benchmarks docs/generate docker
	@$(BIN)/python tests/helpers/known_vulnerabilities.py "$(ADVISORIES)"

docs: export NO_MKDOCS_2_WARNING := true
docs: install  ## the site of docs/, into build/site: open build/site/index.html
	$(BIN)/mkdocs build --quiet

ui: install  ## the MLflow UI on the store of params.yaml, at its port (PORT=5001: another)
	$(BIN)/bus-mlops ui $(if $(PORT),--port $(PORT))

COMPILE := $(BIN)/python -m uv pip compile pyproject.toml --generate-hashes --no-emit-index-url --no-annotate --no-header \
    --universal --python-version 3.11
lock: install  ## resolve the three lock files anew
	$(COMPILE) --extra train --extra dev --output-file requirements.lock
	$(COMPILE) --extra server --constraints requirements.lock --output-file docker/requirements.lock
	$(COMPILE) --extra train --extra sign --constraints requirements.lock --output-file docker/pipeline/requirements.lock

clean:  ## remove the environments; data, runs and results stay
	rm -rf $(VENV) .venv-oldest .venv-312 .venv-313
