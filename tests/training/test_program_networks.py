"""A reused program equals a fresh one for networks with random parts or unnamed layers in their backbones, too."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from small_cells import make_data, make_spec

from bus_mlops.models import zoo
from bus_mlops.spec import RunSpec
from bus_mlops.training.program import Batch, Program


def answers(program: Program, spec: RunSpec, seed: int) -> list[np.ndarray]:
    """Losses of two steps, then the logits of the images that were trained on."""
    data = make_data(8, spec.training.input_size)
    batch = Batch(data.images[..., np.newaxis], data.labels.astype(np.float32))
    program.reset(spec, seed)
    losses = [program.train_batch(batch, step) for step in range(2)]
    return [np.array(losses), program.forward(batch.images)[0]]


# EfficientNetB0 drops blocks at random; Keras names layers of Xception by counting over the whole process.
@pytest.mark.slow
@pytest.mark.parametrize("network", ["efficientnetb0", "xception"])
def test_a_reused_program_equals_a_fresh_one(network: str) -> None:
    spec = make_spec(network, input_size=max(64, zoo.entry(network).minimum))
    program = Program(spec)
    first = answers(program, spec, 1)
    other = answers(program, spec, 2)
    keras.layers.Conv2D(1, 1)
    fresh = answers(Program(spec), spec, 1)
    for a, b, c, again in zip(first, fresh, other, answers(program, spec, 1), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, again)
        assert (a != c).any()
