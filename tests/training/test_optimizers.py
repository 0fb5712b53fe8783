"""The optimizers by their first steps on a known gradient."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bus_mlops.config import Adam, Nadam, Optimizer, Sgd
from bus_mlops.training.optimizers import build_optimizer


def steps(settings: Optimizer, gradients: list[float]) -> list[float]:
    """The value of a weight, 0 at the start, after each step."""
    optimizer, weight, values = build_optimizer(settings), keras.Variable(0.0), []
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
        values.append(float(weight.value))
    return values


def test_adams_first_step_is_the_learning_rate_against_the_sign():
    assert steps(Adam(learning_rate=0.01), [5.0]) == pytest.approx([-0.01], rel=1e-4)


def test_sgd_gathers_momentum():
    values = steps(Sgd(learning_rate=0.1, momentum=0.9), [1.0, 1.0, 0.0])
    assert values == pytest.approx([-0.1, -0.29, -0.461], rel=1e-5)


def test_nadam_has_the_papers_constants():
    optimizer = build_optimizer(Nadam(learning_rate=1e-5))
    settings = optimizer.get_config()
    assert (settings["beta_1"], settings["beta_2"], settings["epsilon"]) == (0.9, 0.999, 1e-8)
    assert settings["learning_rate"] == pytest.approx(1e-5)
    assert steps(Nadam(learning_rate=0.01), [3.0])[0] < 0


@pytest.mark.parametrize("kind", [Adam, Sgd, Nadam])
def test_the_learning_rate_is_a_variable(kind):
    optimizer = build_optimizer(kind(learning_rate=0.5))
    optimizer.learning_rate.assign(0.25)
    np.testing.assert_allclose(np.asarray(optimizer.learning_rate), 0.25)
