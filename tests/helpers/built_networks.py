"""What is asked of every network of the zoo: same answers after saving, gradients that are finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bus_mlops.config import Training
from bus_mlops.models import zoo
from bus_mlops.packaging.onnx_export import export_onnx
from bus_mlops.spec import RunSpec
from bus_mlops.training.initialization import generators


def network_spec(network: str, options: Mapping[str, Any] | None = None, **training: object) -> RunSpec:
    """A specification at 64 px, or the network's smallest size if that is larger, with random weights."""
    entry = zoo.entry(network)
    values = {"input_size": max(64, entry.minimum), "weights": "random", **training}
    return RunSpec(
        network=network,
        options=dict(options or {}),
        cohort=("busi",),
        task=entry.task,
        training=Training.model_validate(values),
        seed=0,
    )


def random_images(model: keras.Model, count: int = 2) -> np.ndarray:
    """Noise for a network: float32 (count, S, S, 3), 0-255."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


def trainable_parameters(model: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def assert_same_after_saving(model: keras.Model, folder: Path) -> None:
    """Saved as `.keras` and loaded in safe mode without custom objects, the network answers bit for bit alike."""
    path = folder / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
    images = random_images(model)
    before, after = _logits(model, images), _logits(loaded, images)
    assert set(loaded.output) == set(model.output)
    for name in before:
        assert before[name].std() > 0
        np.testing.assert_array_equal(before[name], after[name])


def _logits(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Before the sigmoid, since that of a network without training may be 0.5 to the last bit for all images."""
    logits = {name: model.get_layer(f"{name}_logit").output for name in model.output}
    return {name: np.asarray(values) for name, values in keras.Model(model.input, logits)(images).items()}


def assert_every_layer_learns(model: keras.Model) -> None:
    """All gradients are finite, and in each trainable layer at least one is not zero."""
    images = random_images(model, 4)
    # Stochastic depth may leave out a block for all four images (EfficientNet: once in 400): always the same draw.
    for number, state in enumerate(generators(model).values()):
        state.assign([number, 0])
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        # Unequal weights on pixels and cases, so that no gradient cancels by symmetry.
        rng = np.random.default_rng(0)
        loss = sum(tf.reduce_sum(output * rng.normal(size=output.shape)) for output in outputs.values())
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    greatest: dict[str, float] = {}
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(np.asarray(gradient)).all(), variable.path
        layer = variable.path.rsplit("/", 1)[0]
        greatest[layer] = max(greatest.get(layer, 0.0), float(np.abs(np.asarray(gradient)).max()))
    silent = [layer for layer, gradient in greatest.items() if gradient == 0]
    assert not silent, f"layers without a gradient: {', '.join(silent)}"


def assert_onnx_agrees(model: keras.Model, folder: Path) -> None:
    """Exported in a process of its own, which gives back the gigabytes that this takes; raises if they differ."""
    model.save(folder / "model.keras")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(export_onnx, folder / "model.keras", folder / "model.onnx").result() < 1e-4
