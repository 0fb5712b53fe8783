"""Training a cell: it learns, keeps the best epoch, says what went wrong."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from small_cells import make_data, make_spec

from bus_mlops.errors import TrainingError
from bus_mlops.training.fit import CellData, evaluate, fit, train_epoch
from bus_mlops.training.program import Program
from bus_mlops.training.state import EpochLog


def run(program, spec, data, train, validation, **more):
    return fit(program, spec, CellData(data.images, data.labels, train, validation, data.masks), **more)


def test_it_learns_16_images_and_keeps_the_best_epoch():
    spec = make_spec(epochs=25, augmentation={}, dropout=0.0, batch_norm_momentum=0.5)
    program, data, index = Program(spec), make_data(16, 32), np.arange(16)
    logs: list[EpochLog] = []
    result = run(program, spec, data, index, index, seed=1, on_epoch=logs.append)

    assert [log.epoch for log in logs] == list(range(1, 26))
    assert [row["validation_loss"] for row in result.history] == [log.validation_loss for log in logs]
    assert result.history[-1]["loss"] < 0.2 < result.history[0]["loss"]
    assert np.mean((program.predict(data.images, index).probability >= 0.5) == data.labels) == 1

    losses = [log.validation_loss for log in logs]
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert result.best_validation_loss == min(losses)
    # The weights left behind are those of the best epoch, not of the last.
    cell = CellData(data.images, data.labels, index, index)
    loss, area = evaluate(program, cell, index)
    assert loss == min(losses)
    assert area == logs[result.best_epoch - 1].validation_roc_auc


@pytest.mark.slow
def test_mt_estan_learns_its_masks():
    spec = make_spec("mt_estan", epochs=25, batch_size=4, augmentation={}, dropout=0.0)
    program, data = Program(spec), make_data(8, 64)
    index = np.arange(8)
    result = run(program, spec, data, index, index, seed=1)
    probability, masks = program.predict(data.images, index)
    assert masks is not None
    predicted = masks >= 0.5
    dice = 2 * (predicted & (data.masks > 0)).sum() / (predicted.sum() + data.masks.sum())
    assert dice > 0.8
    assert np.mean((probability >= 0.5) == data.labels) == 1
    assert result.history[result.best_epoch - 1]["validation_roc_auc"] == 1


def test_validation_loss_is_the_training_loss_of_whole_batches():
    spec = make_spec("mt_estan", loss={"positive_weight": 3, "classification_weight": 1.5, "mask_weight": 0.5})
    program, data = Program(spec), make_data(40, 64)
    program.reset(spec, 3)
    has_mask = (np.arange(40) % 3 > 0).astype(np.uint8)
    index = np.arange(40)
    cell = CellData(data.images, data.labels, index, index, data.masks, has_mask)
    loss, area = evaluate(program, cell, index)

    probability, masks = program.predict(data.images, np.arange(40))
    assert masks is not None
    p = probability.astype(np.float64)
    cross_entropy = -(3 * data.labels * np.log(p) + (1 - data.labels) * np.log(1 - p))
    expected = 0.0
    for part in (slice(0, 32), slice(32, 40)):
        kept = has_mask[part] > 0
        y, q = data.masks[part][kept].astype(float), masks[part][kept].astype(float)
        dice = 1 - (2 * (y * q).sum() + 1) / (y.sum() + q.sum() + 1)
        n = len(has_mask[part])
        expected += n / 40 * (1.5 * cross_entropy[part].mean() + 0.5 * dice)
    assert loss == pytest.approx(expected, rel=1e-3)

    from sklearn.metrics import roc_auc_score

    assert area == pytest.approx(roc_auc_score(data.labels, p), abs=1e-6)


def test_a_loss_that_is_not_finite_names_epoch_and_rate():
    spec = make_spec(
        epochs=40,
        scaling="raw255",
        loss={"classification_weight": 100},
        optimizer={"name": "sgd", "learning_rate": 1.0, "momentum": 0.99},
    )
    data, program = make_data(24, 32), Program(spec)
    with pytest.raises(TrainingError, match=r"mobilenet diverged: .* in epoch \d+ .*learning_rate 1"):
        run(program, spec, data, np.arange(16), np.arange(16, 24), seed=1)


def test_empty_parts_and_missing_masks_are_errors():
    data, index, none = make_data(8, 32), np.arange(8), np.arange(0)
    program = Program(make_spec())
    with pytest.raises(TrainingError, match="training part"):
        run(program, make_spec(), data, none, index, seed=0)
    with pytest.raises(TrainingError, match="validation part"):
        run(program, make_spec(), data, index, none, seed=0)
    with pytest.raises(TrainingError, match="needs masks"):
        fit(program, make_spec("mt_estan"), CellData(data.images, data.labels, index, index), seed=0)


def test_without_validation_the_last_epoch_stays():
    spec = make_spec(epochs=3)
    program, data, index = Program(spec), make_data(24, 32), np.arange(16)
    logs: list[EpochLog] = []
    result = run(program, spec, data, index, None, seed=1, on_epoch=logs.append)
    refitted = program.predict(data.images, np.arange(24)).probability
    assert result.best_epoch == len(logs) == 3
    assert all(np.isnan([log.validation_loss, log.validation_roc_auc]).all() for log in logs)

    # Looking at a validation part changes no weight, so its last epoch is the same one.
    last: list[np.ndarray] = []
    run(program, spec, data, index, np.arange(16, 24), seed=1, on_epoch=lambda log: last.extend(program.snapshot()))
    program.restore(last[-len(program.snapshot()) :])
    np.testing.assert_array_equal(program.predict(data.images, np.arange(24)).probability, refitted)


def test_an_error_of_the_callback_stops_the_training():
    spec = make_spec(epochs=5)
    seen = []

    def prune(log: EpochLog) -> None:
        seen.append(log.epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Program(spec), spec, make_data(8, 32), np.arange(6), np.arange(6, 8), seed=0, on_epoch=prune)
    assert seen == [1]


def test_each_epoch_has_an_order_of_its_own_and_steps_go_on():
    """The batches of two epochs, as a program would get them."""

    class Recorder:
        def __init__(self) -> None:
            self.labels: list[list[float]] = []
            self.steps: list[int] = []

        def train_batch(self, batch, step: int) -> float:
            self.labels.append(batch.labels.tolist())
            self.steps.append(step)
            return 1.0

    numbers = np.arange(40)
    data = CellData(np.zeros((40, 32, 32), np.uint8), numbers, numbers, None)
    recorder, spec = Recorder(), make_spec("mobilenet")
    for epoch in (1, 2):
        train_epoch(cast("Any", recorder), spec, data, 7, epoch)
    assert recorder.steps == [0, 1, 2, 3, 4, 5]  # 40 images in batches of 16
    first, second = (np.concatenate(each).tolist() for each in (recorder.labels[:3], recorder.labels[3:]))
    assert sorted(first) == sorted(second) == numbers.tolist()
    assert first != second
