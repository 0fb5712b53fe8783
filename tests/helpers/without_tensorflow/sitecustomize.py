"""On PYTHONPATH, a process finds neither TensorFlow nor Keras, and leaves a note when it looks for one of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import NoReturn

NOTE = "NOTE_WITHOUT_TENSORFLOW"


class TensorFlowMissingError(ModuleNotFoundError):
    """Something needs TensorFlow in a test run that does without."""


class WithoutTensorFlow(MetaPathFinder):
    """The first finder of a process."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Nothing, except for what shall be missing."""
        if name in ("tensorflow", "keras"):
            self.miss(name)

    def miss(self, name: str) -> NoReturn:
        """Leave the note and raise TensorFlowMissingError."""
        Path(os.environ[NOTE]).touch()
        raise TensorFlowMissingError(f"no module named {name!r}: these tests run without TensorFlow", name=name)


if NOTE in os.environ:
    sys.meta_path.insert(0, WithoutTensorFlow())
