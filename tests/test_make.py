"""What the Makefile, the hooks before a commit and the lock files promise each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from long_files import LONG
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
    assert phony - set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE)) == {"test-312", "test-313"}


def test_slow_tests_are_marked_in_their_own_files():
    """Where make test-slow looks for them."""
    shared = [path for path in (ROOT / "tests").rglob("*.py") if not path.name.startswith("test_")]
    assert [path for path in shared if re.search(r"mark\.(slow|alone)\b", path.read_text())] == []


def test_no_two_files_of_tests_share_a_name():
    """Pytest imports them by it; of two that one process collects, the second is an error. Alone neither is."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_files_to_begin_with_are_there():
    assert set(LONG) <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_python_that_does_not_start_is_passed_over(tmp_path, elsewhere):
    """As pyenv's shim of a version that is not active."""
    versions = tmp_path / ".pyenv" / "versions" / "3.12.1" / "bin"
    _script(tmp_path / "bin" / "python3.12", "exit 127")
    if elsewhere:
        _script(versions / "python3.12", "exit 0")
    environment = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = ["make", "--eval", "which: ; @echo $(PYTHON312)", "which"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (str(versions / "python3.12") if elsewhere else "")


def _script(file: Path, line: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)
