"""Files like those with ImageNet weights, with random values: their real ones cannot be had everywhere."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from bus_mlops.models.applications import APPLICATIONS, IMAGENET_MEAN, IMAGENET_STD


def write_pretrained(backbone: str, folder: Path, ours: bool = False) -> Path:
    """Write the file that Keras downloads for `backbone`, or `ours` in Keras 3's own format, of the same values."""
    found = APPLICATIONS[backbone]
    keras.utils.set_random_seed(0)
    builder = getattr(keras.applications, found.builder)
    model = builder(include_top=False, weights=None, input_shape=(224, 224, 3), **found.arguments)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is not None:
            continue  # its numbers are in the network, and in no file
        if isinstance(layer, keras.layers.Normalization):
            # The released file of EfficientNetB0 has the standard deviations where variances belong.
            values = {"0": np.array(IMAGENET_MEAN), "1": np.array(IMAGENET_STD), "2": np.zeros((), np.int32)}
            layer.load_own_variables(values)
            continue
        for weight in layer.weights:
            spread = 0.1 if len(weight.shape) == 1 else 0.0
            value = np.asarray(weight) * rng.uniform(0.8, 1.2, weight.shape)
            weight.assign(value + spread * rng.uniform(size=weight.shape))
    path = folder / found.files[ours]
    if ours:
        model.save_weights(path)
    else:
        model.save(path)
    return path
