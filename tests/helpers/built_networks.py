"""What tests count in built networks."""

from __future__ import annotations

import math

import keras


def trainable_parameters(model: keras.Model) -> int:
    """How many numbers training changes."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)
