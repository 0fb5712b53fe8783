"""What a training that is cut off goes on from: all it depends on, in one file, written after each epoch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.errors import TrainingError
from bus_mlops.files import replacing
from bus_mlops.training.state import EpochLog, FitState

if TYPE_CHECKING:
    from bus_mlops.training.program import Program


class Checkpoint:
    """The file of one training. `identity` says what its numbers depend on, such as fingerprint and threads.

    Numpy's format without pickle; each array has a checksum. A file is replaced whole, so that a death in the middle
    of writing costs the latest epoch and no more.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self._path = path
        self._identity = dict(identity)

    def load(self, program: Program) -> FitState:
        """The state to go on from, without epochs if there is no file.

        Raises:
            TrainingError: The file cannot be gone on from; says why.
        """
        for partial in self._path.parent.glob(f".{self._path.name}.*"):  # of a process killed while writing
            partial.unlink(missing_ok=True)
        if not self._path.exists():
            return FitState()
        try:
            with np.load(self._path) as arrays:
                about = json.loads(str(arrays["about"]))
                state, best = _arrays(arrays, "state"), _arrays(arrays, "best")
            history = [EpochLog(**log) for log in about["history"]]
            latest = FitState(history, history[about["best"] - 1], best, about["seconds"], state)
        except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{self._path} cannot be read ({error})") from error
        for name, value in self._identity.items():
            if about["identity"].get(name) != value:
                raise TrainingError(f"{self._path} is of {name} {about['identity'].get(name)}, not {value}")
        if [value.shape for value in state] != [value.shape for value in program.state()]:
            raise TrainingError(f"{self._path} is of a network of other shapes")
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
        }
        best = [] if state.best is state.history[-1] else state.best_weights  # or they would be written twice
        arrays = {f"state_{number}": value for number, value in enumerate(program.state())}
        arrays |= {f"best_{number}": value for number, value in enumerate(best)}
        with replacing(self._path) as temporary:
            np.savez(temporary, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]  # none is `allow_pickle`

    def remove(self) -> None:
        """Delete the file, if there is one; one that cannot be deleted is left."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _arrays(file: Any, kind: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{kind}_") for name in file.files)
    return [file[f"{kind}_{number}"] for number in range(count)]
