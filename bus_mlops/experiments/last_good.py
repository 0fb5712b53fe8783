"""What a training that diverges leaves behind: the best weights before it did, and the learning curve."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bus_mlops.tracking.ledger import CURVES, MODEL, Ledger

if TYPE_CHECKING:
    import numpy as np

    from bus_mlops.training.fit import EpochLog
    from bus_mlops.training.program import Program


class LastGood:
    """The weights of the best epoch so far: what a training that diverges later leaves for a post-mortem."""

    def __init__(self) -> None:
        self._weights: list[np.ndarray] = []
        self._loss = math.inf
        self._curve: list[dict[str, float]] = []

    def note(self, log: EpochLog, program: Program) -> None:
        """Take note of an epoch that ended well."""
        self._curve.append(asdict(log))
        if log.validation_loss < self._loss:
            self._loss, self._weights, self._epoch = log.validation_loss, program.snapshot(), log.epoch

    def keep(self, program: Program | None, ledger: Ledger, run_id: str) -> None:
        """Store checkpoint and learning curve with the run, if there was a good epoch."""
        if not self._weights or program is None:
            return
        program.restore(self._weights)
        with tempfile.TemporaryDirectory(prefix="bus-cell-") as folder:
            program.save(Path(folder) / MODEL)
            pd.DataFrame(self._curve).to_csv(Path(folder) / CURVES, index=False)
            ledger.keep(run_id, Path(folder), {"checkpoint": f"{MODEL}, of epoch {self._epoch}"})
