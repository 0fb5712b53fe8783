"""The learning rate of each step: constant, or falling as half a cosine wave, after a warm-up or none."""

from __future__ import annotations

import math

from bus_mlops.config import Optimizer


def scheduled_rate(optimizer: Optimizer, step: int, steps_of_epoch: int, epochs: int) -> float:
    """The learning rate of a step, counted from 0 over all epochs.

    With w steps of warm-up and n in all: rate x step / w while step < w; then the rate itself, or with `cosine`
    rate x (1 + cos(pi x (step - w) / (n - w))) / 2 (Loshchilov and Hutter, SGDR, 2017, without restarts). It is what
    Keras's CosineDecay gives that warms up from 0, and follows from the step alone: a training that goes on after it
    was cut off has the same.

    >>> from bus_mlops.config import Adam
    >>> rule = Adam(learning_rate=1.0, schedule="cosine", warmup_epochs=1)
    >>> [round(scheduled_rate(rule, step, 2, 3), 2) for step in range(6)]
    [0.0, 0.5, 1.0, 0.85, 0.5, 0.15]
    """
    rate, warmup = optimizer.learning_rate, optimizer.warmup_epochs * steps_of_epoch
    if step < warmup:
        return rate * step / warmup
    if optimizer.schedule == "constant":
        return rate
    return rate * (1 + math.cos(math.pi * (step - warmup) / (epochs * steps_of_epoch - warmup))) / 2
