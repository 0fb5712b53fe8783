"""The paper's three optimizers; the learning rate is a variable: one compiled program serves every rate."""

from __future__ import annotations

from bus_mlops.config import Optimizer
from bus_mlops.models.framework import keras


def build_optimizer(settings: Optimizer) -> keras.optimizers.Optimizer:
    """Adam, SGD with momentum, or Nadam (beta_1 .9, beta_2 .999, epsilon 1e-8) at the given learning rate.

    The paper's rates are 1e-5, 2e-3 (momentum .9) and 1e-5. A new object each call: folds share its program, never
    its state, which `Program.reset` sets back.
    """
    if settings.name == "adam":
        return keras.optimizers.Adam(settings.learning_rate)
    if settings.name == "sgd":
        return keras.optimizers.SGD(settings.learning_rate, momentum=settings.momentum)
    return keras.optimizers.Nadam(settings.learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
