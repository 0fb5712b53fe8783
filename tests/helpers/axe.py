"""Deque's axe-core in a page of the tests' browser: what of it people with a screen reader or a keyboard cannot use."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from browser import Browser

VERSION = "4.14.1"


def axe_core(folder: Path) -> str:
    """The script, by npm, whose cache has it from the second time on; skips where npm cannot get it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine, so no axe-core: apt-get install npm")
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    command = [npm, "install", *quiet, "--prefix", str(folder), f"axe-core@{VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not get axe-core within 90 s")
    if done.returncode:
        pytest.skip(f"npm cannot get axe-core: {done.stderr.strip()[-200:]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def violations(browser: Browser, script: str) -> list[Any]:
    """Each rule that the page breaks, with the first element that does."""
    browser.run(f"{script};0")
    found = "axe.run(document).then(r => r.violations.map(v => [v.id, v.nodes[0].html, v.nodes[0].failureSummary]))"
    return list(browser.run(found))
