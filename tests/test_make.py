"""What the Makefile, the hooks before a commit and the lock files promise each other."""

from __future__ import annotations

import re

import yaml
from projects import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def test_the_hooks_before_a_commit_run_what_make_lint_runs_and_download_nothing():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    recipe = MAKEFILE.partition("lint: install")[2].partition("\n\n")[0]
    programs = re.findall(r"\$\(BIN\)/(\S+)(?: (check|format))?", recipe)
    hooks = re.findall(r"\.venv/bin/(\S+)(?: (check|format))?", " ".join(h["entry"] for h in repository["hooks"]))
    assert hooks == programs


def test_every_target_says_what_it_is_for_or_is_part_of_another():
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())  # type: ignore[index]  # an error is an answer
    assert phony == set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
    assert phony - set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE)) == {"test-312"}
