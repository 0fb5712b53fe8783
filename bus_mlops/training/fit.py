"""Trains one cell: epochs, validation, and the weights of least validation loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bus_mlops.config import Plateau, Training
from bus_mlops.errors import TrainingError
from bus_mlops.evaluation.roc import weighted_roc_auc
from bus_mlops.spec import RunSpec
from bus_mlops.training.program import EVALUATION_BATCH, Batch, Program, batches, channels
from bus_mlops.training.schedule import scheduled_rate
from bus_mlops.training.state import EpochLog, FitState


@dataclass(frozen=True)
class FitResult:
    """The learning curve (a dict with the fields of EpochLog each), and the epoch whose weights were kept.

    `chosen` is what else was chosen on the validation part: the penalty of a linear probe.
    """

    history: list[dict[str, float]]
    best_epoch: int
    best_validation_loss: float
    seconds: float
    chosen: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CellData:
    """The arrays of a benchmark, and which of its images a cell trains on and validates on.

    Batches are read from the (memory-mapped) arrays one at a time.

    Attributes:
        images: uint8 (N, S, S) gray or (N, S, S, 3), 0-255.
        labels: (N,), 0 or 1.
        train: Row numbers.
        validation: Row numbers, or None for a refit, which has no validation part.
        masks: uint8 (N, S, S), 0 or 1; None for networks that only classify.
        has_mask: (N,), 0 or 1; None if every image has one.
    """

    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray | None
    masks: np.ndarray | None = None
    has_mask: np.ndarray | None = None

    def batch(self, index: np.ndarray) -> Batch:
        """The arrays at these indices, in this order."""
        masks = has_mask = None
        if self.masks is not None:
            masks = self.masks[index]
            has = np.ones(len(index)) if self.has_mask is None else self.has_mask[index]
            has_mask = has.astype(np.float32)
        return Batch(channels(self.images[index]), self.labels[index].astype(np.float32), masks, has_mask)


def fit(
    program: Program,
    spec: RunSpec,
    data: CellData,
    *,
    seed: int,
    on_epoch: Callable[[EpochLog], None] = lambda _: None,
    state: FitState | None = None,
) -> FitResult:
    """Reset the program, train `spec.training.epochs` epochs, and leave it with the best epoch's weights.

    Best is the least validation loss, the first of equals (the paper's checkpoint), or the last epoch where
    `kept_epoch` says so. Without a validation part there is none to choose by: the last epoch's weights stay, and
    what validation shows is NaN.

    Args:
        program: Of the spec's `program_key()`.
        spec: What is trained.
        data: What it is trained on.
        seed: The cell's: initial weights, order, augmentation and dropout follow from it alone.
        on_epoch: Called after each epoch; its errors pass through.
        state: Is brought up to date before each call of `on_epoch`; one that has epochs already is gone on from, to the
            same last bit.

    Raises:
        TrainingError: A part is empty, masks are missing, a plateau has no validation part, or a loss is not finite.
    """
    _check(spec, data)
    data = data if spec.task.segments else replace(data, masks=None)
    state = FitState() if state is None else state
    program.reset(spec, seed)
    if state.history:
        program.resume(state.program)
        state.program = []
    started = time.monotonic() - state.seconds
    for epoch in range(len(state.history) + 1, spec.training.epochs + 1):
        clock = time.monotonic()
        if spec.training.plateau is not None:
            seen = [log.validation_loss for log in state.history]
            rate = reduced_rate(spec.training.plateau, spec.training.optimizer.learning_rate, seen)
            program.optimizer.learning_rate.assign(rate)
        loss = train_epoch(program, spec, data, seed, epoch)
        validation_loss, area = _validate(program, spec, data, epoch)
        log = EpochLog(epoch, spec.training.epochs, loss, validation_loss, area, time.monotonic() - clock)
        state.history.append(log)
        last = spec.training.kept_epoch == "last" or data.validation is None
        if state.best is None or last or log.validation_loss < state.best.validation_loss:
            state.best, state.best_weights = log, program.snapshot()
        state.seconds = time.monotonic() - started
        on_epoch(log)
    assert state.best is not None  # noqa: S101 - epochs is at least 1
    program.restore(state.best_weights)
    history = [asdict(log) for log in state.history]
    return FitResult(history, state.best.epoch, state.best.validation_loss, time.monotonic() - started)


def evaluate(program: Program, data: CellData, index: np.ndarray) -> tuple[float, float]:
    """The loss over these images (mean over batches, weighted by size) and the area under the ROC curve.

    The area is NaN for a network that only segments, and where the loss is not finite.
    """
    total, logits = 0.0, []
    for part in batches(index, EVALUATION_BATCH):
        batch = data.batch(part)
        outputs = program.forward(batch.images)
        total += program.loss(batch, outputs) * len(part)
        logits.append(outputs.logits)
    if not program.task.classifies or not math.isfinite(total):
        return total / len(index), math.nan
    area = weighted_roc_auc(data.labels[index], np.concatenate(logits), np.ones((1, len(index))))
    return total / len(index), float(area[0])


def train_epoch(program: Program, spec: RunSpec, data: CellData, seed: int, epoch: int) -> float:
    """Train one epoch (1-based) on its `epoch_batches`.

    Returns:
        The mean loss of its images.

    Raises:
        TrainingError: The loss is not finite.
    """
    parts = list(epoch_batches(spec.training, data.train, seed, epoch))
    # Read once an epoch: to look at each step's loss would make a GPU wait for the next batch.
    losses = [_step(program, spec.training, data, step, part) for step, part in parts]
    total = sum(float(loss) * len(part) for loss, (_, part) in zip(losses, parts, strict=True))
    _check_finite(spec, epoch, total, "training loss")
    return total / sum(len(part) for _, part in parts)


def epoch_batches(training: Training, train: np.ndarray, seed: int, epoch: int) -> Iterator[tuple[int, np.ndarray]]:
    """The steps of an epoch (1-based), counted from 0 over all epochs, each with the rows of its batch.

    Steps go through all images pass after pass, each pass in an order of its own that follows from seed and pass, its
    last batch smaller where the images do not divide. An epoch is one pass, or `steps_per_epoch` steps: then it
    begins where the one before it stopped, in the middle of a pass or not.
    """
    size = training.batch_size
    passed = math.ceil(len(train) / size)
    steps = training.steps_of_epoch(len(train))
    latest, order = 0, train
    for step in range((epoch - 1) * steps, epoch * steps):
        number, place = divmod(step, passed)
        if latest != number + 1:
            latest = number + 1
            order = np.random.default_rng([seed, latest]).permutation(train)
        yield step, order[place * size : (place + 1) * size]


def reduced_rate(plateau: Plateau, rate: float, losses: Sequence[float]) -> float:
    """The learning rate after epochs with these validation losses, of a training that began with `rate`.

    It follows from the losses alone: a training that was cut off, or shares its program with others, has the same.

    >>> plateau = Plateau(factor=0.1, patience=2, minimum=1e-3)
    >>> [reduced_rate(plateau, 1.0, [0.5, 0.6, 0.6, 0.6][:n]) for n in range(5)]
    [1.0, 1.0, 1.0, 0.1, 0.1]
    """
    best, waited = math.inf, 0
    for loss in losses:
        if loss + plateau.min_delta < best:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= plateau.patience and rate > plateau.minimum:
            rate, waited = max(rate * plateau.factor, plateau.minimum), 0
    return rate


def _step(program: Program, training: Training, data: CellData, step: int, part: np.ndarray) -> Any:
    """The loss of a batch, a scalar, from a step of the optimizer with the learning rate of that step."""
    if not training.optimizer.is_constant:
        steps = training.steps_of_epoch(len(data.train))
        program.optimizer.learning_rate.assign(scheduled_rate(training.optimizer, step, steps, training.epochs))
    return program.train_batch(data.batch(part), step)


def _validate(program: Program, spec: RunSpec, data: CellData, epoch: int) -> tuple[float, float]:
    if data.validation is None:
        return math.nan, math.nan
    loss, area = evaluate(program, data, data.validation)
    _check_finite(spec, epoch, loss, "validation loss")
    return loss, area


def _check(spec: RunSpec, data: CellData) -> None:
    for name, index in (("training", data.train), ("validation", data.validation)):
        if index is not None and len(index) == 0:
            raise TrainingError(f"the {name} part of {spec.network} is empty: add images or change the folds.")
    if spec.training.plateau is not None and data.validation is None:
        raise TrainingError(
            f"the learning rate of {spec.network} follows its validation loss (plateau), and there is no validation "
            "part. Train it without plateau, or set package.members to all instead of refit."
        )
    if spec.task.segments and data.masks is None:
        raise TrainingError(f"{spec.network} needs masks but got none: train it on sources that have them.")


def _check_finite(spec: RunSpec, epoch: int, loss: float, what: str) -> None:
    if not math.isfinite(loss):
        rate = spec.training.optimizer.learning_rate
        raise TrainingError(
            f"training of {spec.network} diverged: {what} is {loss} in epoch {epoch} "
            f"({spec.training.optimizer.name}, learning_rate {rate:g}). Lower the learning rate."
        )
