# The whole life of the project in a few words: reproduce, test, lint, ui. Needs Python 3.11, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 5000

export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export RAY_USAGE_STATS_ENABLED := 0
export AWS_EC2_METADATA_DISABLED := true

.PHONY: help install reproduce test test-slow test-all lint ui lock clean

help:  ## show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## make the environment from the lock file

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 13) else "Python 3.11 or 3.12 is needed, found %d.%d: make PYTHON=/path/to/python3.11" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing about 200 packages from requirements.lock (one to three minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

reproduce: install  ## run the whole pipeline of params.yaml and print a summary
	$(BIN)/dvc repro
	@$(BIN)/bus-mlops summary

test: install  ## the tests, under 12 minutes on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-slow: install  ## the tests that make test leaves out
	$(BIN)/python -m pytest -m slow

test-all: test test-slow  ## all tests

lint: install  ## ruff, mypy and the contracts of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy bus_mlops pipelines benchmarks tests
	$(BIN)/lint-imports

ui: install  ## the MLflow UI on the store of params.yaml, http://127.0.0.1:5000
	$(BIN)/bus-mlops ui --port $(PORT)

COMPILE := $(BIN)/python -m uv pip compile pyproject.toml --generate-hashes --no-emit-index-url --no-annotate --no-header \
    --universal --python-version 3.11
lock: install  ## resolve the two lock files anew (needs uv: .venv/bin/pip install uv)
	$(COMPILE) --extra train --extra dev --output-file requirements.lock
	$(COMPILE) --extra server --constraints requirements.lock --output-file docker/requirements.lock

clean:  ## remove the environment; data, runs and results stay
	rm -rf $(VENV)
