"""The learning rate of each step against Keras's own CosineDecay, and what a training does with it."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from small_cells import make_data, make_spec

from bus_mlops.config import Adam, Sgd
from bus_mlops.training.fit import CellData, fit
from bus_mlops.training.program import Program
from bus_mlops.training.schedule import scheduled_rate
from bus_mlops.training.state import EpochLog, FitState


@pytest.mark.parametrize(("warmup", "epochs", "steps"), [(0, 1, 7), (0, 5, 3), (1, 4, 5), (3, 4, 2), (2, 20, 1)])
def test_it_is_keras_own_cosine_decay(warmup, epochs, steps):
    from keras.optimizers.schedules import CosineDecay

    rule = Adam(learning_rate=0.02, schedule="cosine", warmup_epochs=warmup)
    first, target = (0.0, 0.02) if warmup else (0.02, None)
    theirs = CosineDecay(first, (epochs - warmup) * steps, warmup_target=target, warmup_steps=warmup * steps)
    for step in range(epochs * steps):
        assert scheduled_rate(rule, step, steps, epochs) == pytest.approx(float(theirs(step)), rel=1e-5, abs=1e-9)


def test_a_warm_up_alone_stays_at_the_rate_that_it_reaches():
    rule = Sgd(learning_rate=0.5, warmup_epochs=2)
    assert [scheduled_rate(rule, step, 2, 4) for step in range(8)] == [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5]


def rates_of(program: Program, spec, data: CellData, monkeypatch, state: FitState | None = None, stop: int = 0):
    """The learning rate of every step of a training, which is cut off after an epoch."""
    seen: list[float] = []
    train = program.train_batch

    def watched(batch, step):
        seen.append(float(np.asarray(program.optimizer.learning_rate)))
        return train(batch, step)

    def on_epoch(log: EpochLog) -> None:
        if state is not None and log.epoch == stop:
            state.program = program.state()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(program, "train_batch", watched)
        with contextlib.suppress(KeyboardInterrupt):
            fit(program, spec, data, seed=1, state=state, on_epoch=on_epoch)
    return seen


def test_a_program_shared_with_constant_rates_follows_each_cells_own_rule_also_after_it_was_cut_off(monkeypatch):
    images, labels, _ = make_data(40, 32)
    data = CellData(images, labels, np.arange(30), np.arange(30, 40))  # two steps an epoch
    optimizer = {"name": "adam", "learning_rate": 0.01, "schedule": "cosine", "warmup_epochs": 1}
    cosine, constant = (
        make_spec("small", epochs=4, optimizer={**optimizer, **change})
        for change in ({}, {"schedule": "constant", "warmup_epochs": 0})
    )
    assert cosine.program_key() == constant.program_key()
    program = Program(cosine)
    expected = [scheduled_rate(cosine.training.optimizer, step, 2, 4) for step in range(8)]
    assert rates_of(program, cosine, data, monkeypatch) == pytest.approx(expected)
    whole = program.state()
    assert rates_of(program, constant, data, monkeypatch) == pytest.approx([0.01] * 8)
    state = FitState()
    assert rates_of(program, cosine, data, monkeypatch, state, stop=2) == pytest.approx(expected[:4])
    assert rates_of(program, cosine, data, monkeypatch, state) == pytest.approx(expected[4:])
    for ours, theirs in zip(program.state(), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
