"""What a training that is cut off goes on from: all it depends on, in one file, written after each epoch.

The file of the epoch before is kept beside it (`.npz.before`), so that damage costs one epoch.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.errors import TrainingError
from bus_mlops.files import is_alive
from bus_mlops.training.state import EpochLog, FitState

if TYPE_CHECKING:
    from bus_mlops.training.program import Program


ABANDONED_SECONDS = 3600.0
# What damaged bytes do to readers of zip files, arrays and JSON.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError),
    *(NotImplementedError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error, struct.error),
)


class Checkpoint:
    """The files of one training. `identity` says what its numbers depend on, such as fingerprint and threads.

    Numpy's format without pickle; each array has a checksum. A file is replaced whole, so that a death in the middle
    of writing costs the latest epoch and no more.

    Attributes:
        damage: What was wrong with the latest file, if the one before was gone on from.
        epochs: How many the latest file holds; 0 if it was neither read nor written.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self._path = path
        self._before = path.with_name(f"{path.name}.before")
        self._identity = dict(identity)
        self.damage = ""
        self.epochs = 0

    def load(self, program: Program) -> FitState:
        """The state to go on from, without epochs if there is no file.

        Raises:
            TrainingError: The files cannot be gone on from; says why.
        """
        sweep(self._path.parent)
        latest: TrainingError | None = None
        # A process killed between two renames has left the one before alone.
        for path in filter(Path.exists, (self._path, self._before)):
            try:
                state = self._read(path, program)
            except TrainingError as error:
                latest = latest or error
            else:
                self.damage = str(latest or "")
                self.epochs = len(state.history) if path == self._path else 0
                return state
        if latest is not None:
            raise latest
        return FitState()

    def _read(self, path: Path, program: Program) -> FitState:
        try:
            with np.load(path) as arrays:
                about = json.loads(str(arrays["about"]))
                state, best = _arrays(arrays, "state"), _arrays(arrays, "best")
            history = [EpochLog(**log) for log in about["history"]]
            best_log, inherited = history[about["best"] - 1], about.get("inherited", 0)
            latest = FitState(history, best_log, best, about["seconds"], state, inherited)
            identity = dict(about["identity"])
        except _UNREADABLE as error:
            raise TrainingError(f"{path} cannot be read ({error})") from error
        for name, value in self._identity.items():
            if identity.get(name) != value:
                raise TrainingError(f"{path} is of {name} {identity.get(name)}, not {value}")
        if [value.shape for value in state] != [value.shape for value in program.state()]:
            raise TrainingError(f"{path} is of a network of other shapes")
        if not best:
            latest.best_weights = state[: len(program.model.weights)]
        return latest

    def save(self, program: Program, state: FitState) -> None:
        """Write the state after an epoch.

        Raises:
            OSError: As of a full disk; the former file stays as it was.
        """
        assert state.best is not None  # noqa: S101 - there has been an epoch
        about = {
            "identity": self._identity,
            "history": [asdict(log) for log in state.history],
            "best": state.best.epoch,
            "seconds": state.seconds,
            "inherited": state.inherited,
        }
        best = [] if state.best is state.history[-1] else state.best_weights  # or they would be written twice
        arrays = {f"state_{number}": value for number, value in enumerate(program.state())}
        arrays |= {f"best_{number}": value for number, value in enumerate(best)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.epochs = 0
        temporary = self._path.with_name(f".{self._path.name}.{socket.gethostname()}-{os.getpid()}.npz")
        try:
            np.savez(temporary, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]  # none is `allow_pickle`
            if self._path.exists():
                self._path.replace(self._before)
            temporary.replace(self._path)
            self.epochs = len(state.history)
        finally:
            temporary.unlink(missing_ok=True)

    def move(self, path: Path) -> None:
        """Put the latest file elsewhere, in the place of what is there, and delete the one before.

        Raises:
            OSError: As where the folder cannot be made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(path)
        self.remove()

    def remove(self) -> None:
        """Delete the files, if there are any; what cannot be deleted is left."""
        for path in (self._path, self._before):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete what processes killed while writing have left in a folder of checkpoints; of the living, nothing.

    Processes of other machines cannot be looked at: what they left goes after an hour, as writing takes seconds.
    """
    for partial in folder.glob(".*.npz"):
        host, _, process = partial.name.removesuffix(".npz").rpartition(".npz.")[2].rpartition("-")
        with suppress(OSError, OverflowError):
            if host and process.isdigit():  # else of an earlier version
                young = time.time() - partial.stat().st_mtime < ABANDONED_SECONDS
                of_others = int(process) != os.getpid() and (host != socket.gethostname() or is_alive(int(process)))
                if young and of_others:
                    continue
            partial.unlink()


def _arrays(file: Any, kind: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{kind}_") for name in file.files)
    return [file[f"{kind}_{number}"] for number in range(count)]
