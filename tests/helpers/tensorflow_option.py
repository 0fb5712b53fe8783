"""`pytest --without-tensorflow`: every test that needs TensorFlow is skipped, which it says by trying to import it.

No list of tests and no marker, so nothing can be forgotten. A failure of a test that looked for TensorFlow, itself or
in a process that it started, is a skip; all others are failures.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

import pytest
from without_tensorflow import sitecustomize

REASON = "needs TensorFlow"


class Finder(sitecustomize.WithoutTensorFlow):
    """A module that imports TensorFlow at its top is skipped as a whole."""

    collecting = True

    def miss(self, name: str) -> NoReturn:
        if self.collecting:
            pytest.skip(REASON, allow_module_level=True)
        super().miss(name)


class WithoutTensorFlow:
    """The plugin of such a run."""

    def __init__(self) -> None:
        self.note = Path(tempfile.mkdtemp(prefix="without-tensorflow-")) / "note"
        self.finder = Finder()
        self.reasons: list[BaseException] = []  # of fixtures, which raise once more for the next test
        os.environ[sitecustomize.NOTE] = str(self.note)
        folder = str(Path(sitecustomize.__file__).parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
        sys.meta_path.insert(0, self.finder)

    def pytest_collection_finish(self) -> None:
        self.finder.collecting = False

    def pytest_runtest_setup(self) -> None:
        self.note.unlink(missing_ok=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and call.excinfo is not None:
            error = call.excinfo.value
            if self.note.exists() or any(error is reason for reason in self.reasons):
                self.reasons.append(error)
                report.outcome, report.longrepr = (
                    "skipped",
                    (str(item.path), item.location[1] or 0, f"Skipped: {REASON}"),
                )
        return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-tensorflow", action="store_true", help="skip what needs TensorFlow")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-tensorflow"):
        config.pluginmanager.register(WithoutTensorFlow())
