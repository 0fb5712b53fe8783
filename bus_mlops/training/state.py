"""How far a training is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class EpochLog:
    """What one epoch (1-based) showed; the area is a fraction, NaN where validation has one class only.

    Without a validation part its loss and area are NaN.
    """

    epoch: int
    epochs: int
    loss: float
    validation_loss: float
    validation_roc_auc: float
    seconds: float


@dataclass
class FitState:
    """How far a training is: its epochs, the best of them with its weights, the seconds that they took.

    `program` is `Program.state()` after the last of these epochs, for a training that goes on after it was cut off.
    So many of the epochs as `inherited` says were another's, a shorter training of the same course.
    """

    history: list[EpochLog] = field(default_factory=list)
    best: EpochLog | None = None
    best_weights: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0
    program: list[np.ndarray] = field(default_factory=list)
    inherited: int = 0

    def taken_up(self, epochs: int) -> FitState:
        """The same as the beginning of a training of so many epochs."""
        history = [replace(log, epochs=epochs) for log in self.history]
        best = None if self.best is None else history[self.best.epoch - 1]
        return replace(self, history=history, best=best, inherited=len(history))
