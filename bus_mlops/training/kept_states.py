"""What trials leave behind them: their state after the last epoch, for a longer training of the same course.

A state is worth the epochs that it spares and no more: where it is gone or damaged, these are trained once again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from bus_mlops.training.checkpoint import Checkpoint

# Below the folder of the checkpoints.
FOLDER = "states"
# Older ones, and the least recently used beyond so many bytes, are deleted: what a search forgot to delete.
KEPT_SECONDS = 14 * 24 * 3600.0
KEPT_BYTES = 8 * 2**30


class KeptStates:
    """The states of one course on one fold, a file for each length.

    Args:
        checkpoints: The folder of the checkpoints.
        course: `RunSpec.course`: all that the numbers depend on but the number of epochs.
        fold: As of a cell.
    """

    def __init__(self, checkpoints: Path, course: str, fold: int) -> None:
        self._folder = checkpoints / FOLDER
        self._name = f"{course}-{fold}"

    def between(self, done: int, epochs: int) -> list[Path]:
        """The files with more than `done` and at most `epochs` epochs, the longest first."""
        found = {self._epochs(path): path for path in self._files()}
        return [found[number] for number in sorted(found, reverse=True) if done < number <= epochs]

    def keep(self, checkpoint: Checkpoint, epochs: int) -> None:
        """Take a checkpoint of so many epochs over.

        Raises:
            OSError: As of a folder that cannot be written to.
        """
        checkpoint.move(self._folder / f"{self._name}-{epochs}.npz")
        sweep_states(self._folder.parent)

    def forget(self) -> None:
        """Delete them; what cannot be deleted is left."""
        for path in self._files():
            _delete(path)

    def _files(self) -> list[Path]:
        return [path for path in self._folder.glob(f"{self._name}-*.npz") if self._epochs(path)]

    def _epochs(self, path: Path) -> int:
        number = path.stem.removeprefix(f"{self._name}-")
        return int(number) if number.isdecimal() else 0


def used(path: Path) -> None:
    """Note that a state was gone on from: it stays longer than others."""
    with suppress(OSError):
        os.utime(path)


def sweep_states(checkpoints: Path) -> None:
    """Delete the states that are too old, and of the others the least recently used beyond `KEPT_BYTES`."""
    ages = []
    for path in (checkpoints / FOLDER).glob("*.npz"):
        with suppress(OSError):  # another process deletes them too
            about = path.stat()
            ages.append((about.st_mtime, about.st_size, path))
    left = KEPT_BYTES
    for when, size, path in sorted(ages, reverse=True):
        left -= size
        if left < 0 or time.time() - when > KEPT_SECONDS:
            _delete(path)


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
