"""Which epoch is kept and where a training goes on, told by a program whose losses are given: nothing is compiled."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from small_cells import make_spec

from bus_mlops.training import fit as fit_module
from bus_mlops.training.fit import CellData, FitResult, fit
from bus_mlops.training.state import EpochLog, FitState

LOSSES = [0.5, 0.4, 0.6, 0.4, 0.45]


class Scripted:
    """A program that writes down what is asked of it; its weights are the number of steps that it has made."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.steps: list[int] = []
        self.weights = 0
        self.rates: list[float] = []
        self.optimizer = SimpleNamespace(learning_rate=SimpleNamespace(assign=self.rates.append))

    def reset(self, _spec, seed: int) -> None:
        self.asked.append(f"reset {seed}")
        self.weights = 0

    def resume(self, values) -> None:
        self.asked.append("resume")
        self.weights = int(values[0])

    def train_batch(self, _batch, step: int) -> float:
        self.steps.append(step)
        self.weights += 1
        return 1.0

    def snapshot(self) -> list[np.ndarray]:
        return [np.array(self.weights)]

    def restore(self, values) -> None:
        self.weights = int(values[0])


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Its validation losses are those above, epoch by epoch of three steps each."""
    scripted = Scripted()
    monkeypatch.setattr(fit_module, "evaluate", lambda program, *_: (LOSSES[program.weights // 3 - 1], 0.5))
    return scripted


def run(program: Scripted, state: FitState | None = None, *, validation: bool = True, **training: Any) -> FitResult:
    """Train five epochs on 40 images in batches of 16."""
    index = np.arange(40)
    data = CellData(np.zeros((40, 32, 32), np.uint8), index % 2, index, index[:8] if validation else None)
    spec = make_spec(epochs=5, **training)
    return fit(cast("Any", program), spec, data, seed=3, state=state)


def test_of_equal_epochs_the_first_is_kept(program):
    result = run(program)
    assert (result.best_epoch, result.best_validation_loss) == (2, 0.4)
    assert program.weights == 2 * 3, "the weights after the second epoch"
    assert program.asked == ["reset 3"]
    assert program.steps == list(range(15))


@pytest.mark.parametrize("settings", [{"validation": False}, {"kept_epoch": "last"}])
def test_the_last_epoch_is_kept_where_there_is_nothing_to_choose_by_or_it_is_asked_for(program, settings):
    assert run(program, **settings).best_epoch == 5
    assert program.weights == 15


@pytest.mark.parametrize("done", [1, 2, 3, 4, 5])
def test_it_goes_on_after_the_last_whole_epoch(program, done):
    history = [EpochLog(n + 1, 5, 1.0, LOSSES[n], 0.5, 7.0) for n in range(done)]
    best = min(history, key=lambda log: log.validation_loss)
    state = FitState(history, best, [np.array(3 * best.epoch)], 100.0, [np.array(3 * done)])
    plateau = {"patience": 1, "factor": 0.1, "minimum": 1e-9, "min_delta": 0}
    result = run(program, state, plateau=plateau)
    assert program.asked == ["reset 3", "resume"]
    assert program.steps == list(range(3 * done, 15))
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5]
    assert [row["validation_loss"] for row in result.history] == LOSSES
    assert (result.best_epoch, program.weights) == (2, 6)
    assert result.seconds >= 100
    # The third epoch is worse than the second, and the fourth no better.
    assert program.rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-5][done:])


def test_an_epoch_without_a_validation_part_shows_nothing_of_it(program):
    result = run(program, validation=False)
    assert all(math.isnan(row["validation_loss"]) for row in result.history)
