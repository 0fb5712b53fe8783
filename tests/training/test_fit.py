"""Training a cell: it learns, keeps the best epoch, says what went wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from small_cells import make_data, make_spec

from bus_mlops.config import Plateau
from bus_mlops.errors import TrainingError
from bus_mlops.spec import Task
from bus_mlops.training.fit import CellData, epoch_batches, evaluate, fit, reduced_rate, train_epoch
from bus_mlops.training.program import Outputs, Program
from bus_mlops.training.state import EpochLog, FitState


def run(program, spec, data, train, validation, **more):
    return fit(program, spec, CellData(data.images, data.labels, train, validation, data.masks), **more)


def test_it_learns_16_images_and_keeps_the_best_epoch():
    spec = make_spec("small", epochs=25, augmentation={}, dropout=0.0, batch_norm_momentum=0.5)
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
    spec = make_spec("small_multitask", loss={"positive_weight": 3, "classification_weight": 1.5, "mask_weight": 0.5})
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
        "small",
        epochs=40,
        scaling="raw255",
        loss={"classification_weight": 100},
        optimizer={"name": "sgd", "learning_rate": 1.0, "momentum": 0.99},
    )
    data, program = make_data(24, 32), Program(spec)
    with pytest.raises(TrainingError, match=r"small diverged: .* in epoch \d+ .*learning_rate 1"):
        run(program, spec, data, np.arange(16), np.arange(16, 24), seed=1)


def test_empty_parts_and_missing_masks_are_errors():
    data, index, none = make_data(8, 32), np.arange(8), np.arange(0)
    program = Program(make_spec("small"))
    with pytest.raises(TrainingError, match="training part"):
        run(program, make_spec("small"), data, none, index, seed=0)
    with pytest.raises(TrainingError, match="validation part"):
        run(program, make_spec("small"), data, index, none, seed=0)
    with pytest.raises(TrainingError, match="needs masks"):
        fit(program, make_spec("mt_estan"), CellData(data.images, data.labels, index, index), seed=0)


def test_without_validation_the_last_epoch_stays():
    spec = make_spec("small", epochs=3)
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
    spec = make_spec("small", epochs=5)
    seen = []

    def prune(log: EpochLog) -> None:
        seen.append(log.epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Program(spec), spec, make_data(8, 32), np.arange(6), np.arange(6, 8), seed=0, on_epoch=prune)
    assert seen == [1]


class Recorder:
    """In place of a program: the labels of each batch and its step; a batch's loss is its number of images."""

    def __init__(self) -> None:
        self.labels: list[list[float]] = []
        self.steps: list[int] = []

    def train_batch(self, batch, step: int) -> float:
        self.labels.append(batch.labels.tolist())
        self.steps.append(step)
        return float(len(batch.labels))


def recorded(epochs: int, **training: Any) -> tuple[Recorder, list[float]]:
    """The batches of some epochs over images 0 to 39, 16 a batch, and the loss of each epoch."""
    numbers = np.arange(40)
    data = CellData(np.zeros((40, 32, 32), np.uint8), numbers, numbers, None)
    recorder, spec = Recorder(), make_spec("small", **training)
    losses = [train_epoch(cast("Any", recorder), spec, data, 7, epoch) for epoch in range(1, epochs + 1)]
    return recorder, losses


def test_each_epoch_has_an_order_of_its_own_and_steps_go_on():
    """The batches of two epochs, as a program would get them."""
    recorder, losses = recorded(2)
    assert recorder.steps == [0, 1, 2, 3, 4, 5]  # 40 images in batches of 16
    first, second = (np.concatenate(each).tolist() for each in (recorder.labels[:3], recorder.labels[3:]))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert losses == [(16 * 16 * 2 + 8 * 8) / 40] * 2


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_an_epoch_of_so_many_steps_goes_on_in_the_images_pass_after_pass(steps):
    """Exactly the batches of whole passes, cut into epochs elsewhere: as the released scripts' repeating generator."""
    whole, _ = recorded(5)
    recorder, losses = recorded(3, steps_per_epoch=steps)
    assert recorder.steps == list(range(3 * steps))
    passes = recorded(-(-3 * steps // 3))[0].labels
    assert recorder.labels == passes[: 3 * steps]
    assert whole.labels[: len(recorder.labels)] == recorder.labels[: len(whole.labels)]
    for epoch, loss in enumerate(losses):
        sizes = [len(labels) for labels in recorder.labels[epoch * steps : (epoch + 1) * steps]]
        assert loss == sum(size * size for size in sizes) / sum(sizes)


def test_200_steps_of_the_scripts_are_8_passes_and_each_image_is_seen_8_times():
    """Their 773 training images in batches of 32: 25 steps a pass, the last with 5 images."""
    training = make_spec("small", steps_per_epoch=200, batch_size=32).training
    seen = np.concatenate([rows for _, rows in epoch_batches(training, np.arange(773), 1, 2)])
    assert np.bincount(seen).tolist() == [8] * 773
    assert training.images_per_epoch(773) == len(seen)


@pytest.mark.parametrize("seed", range(5))
def test_the_rate_falls_when_that_of_keras_does(seed):
    """Against Keras's own callback, whose state goes from epoch to epoch."""
    import keras

    losses = np.random.default_rng(seed).choice([0.5, 0.4999, 0.49985, 0.48, 0.3], 40, p=[0.4, 0.2, 0.2, 0.15, 0.05])
    losses = (losses - np.arange(40) * (seed % 2) * 2e-5).tolist()
    plateau = Plateau(factor=0.3, patience=3, minimum=1e-3)
    callback = keras.callbacks.ReduceLROnPlateau(factor=0.3, patience=3, min_lr=1e-3, mode="min")
    optimizer = SimpleNamespace(learning_rate=0.1)
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(optimizer.learning_rate))
    assert rates[-1] < 0.1
    assert [reduced_rate(plateau, 0.1, losses[: n + 1]) for n in range(40)] == pytest.approx(rates)


class Worsening(Recorder):
    """Each epoch has one step and a validation loss that is higher; weights are the number of steps."""

    task = Task.SEGMENTATION  # no area under a curve

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.optimizer = SimpleNamespace(learning_rate=SimpleNamespace(assign=self.rates.append))
        self.restored = 0

    def reset(self, *_: object) -> None:
        self.steps.clear()

    def resume(self, weights: list[int]) -> None:
        self.steps = list(range(weights[0]))

    def forward(self, _: np.ndarray) -> Outputs:
        return Outputs(None, None)

    def loss(self, *_: object) -> float:
        return float(len(self.steps))

    def snapshot(self) -> list[int]:
        return [len(self.steps)]

    def restore(self, weights: list[int]) -> None:
        self.restored = weights[0]


@pytest.mark.parametrize(("kept", "epoch"), [("best", 1), ("last", 5)])
def test_the_weights_of_the_epoch_that_the_spec_names_stay_and_the_rate_falls(kept, epoch):
    plateau = {"patience": 2, "factor": 0.5, "minimum": 0.3}
    rate = {"name": "sgd", "learning_rate": 1.0}
    spec = make_spec("small", epochs=5, steps_per_epoch=1, kept_epoch=kept, plateau=plateau, optimizer=rate)
    program, index = cast("Any", Worsening()), np.arange(8)
    data = CellData(np.zeros((8, 32, 32), np.uint8), index % 2, index, index)
    state = FitState()
    result = fit(program, spec, data, seed=1, state=state)
    assert (result.best_epoch, program.restored) == (epoch, epoch)
    assert program.rates == [1.0, 1.0, 1.0, 0.5, 0.5]

    # Cut off after three epochs, and gone on with by another process.
    cut = FitState(state.history[:3], state.history[0], cast("Any", [1]), program=cast("Any", [3]))
    other = cast("Any", Worsening())
    assert fit(other, spec, data, seed=1, state=cut).best_epoch == epoch
    assert other.rates == [0.5, 0.5]


def test_a_plateau_needs_a_validation_part():
    spec, data, index = make_spec("small", plateau={}), make_data(8, 32), np.arange(8)
    with pytest.raises(TrainingError, match=r"plateau.*no validation part.*package\.members to all"):
        fit(cast("Any", None), spec, CellData(data.images, data.labels, index, None), seed=0)
