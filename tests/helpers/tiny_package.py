"""A tiny but real multitask network, an image for it, and what its package says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

SIZE = 32
METADATA = {
    "name": "tiny-phantom",
    "phantom": True,
    "trained_on": "busi",
    "lineage": {"runs": ["a", "b"], "commit": "0" * 40},
    "gate": "passed",
}


@dataclass(frozen=True)
class TinyRegistry:
    """Two versions of `tiny-phantom`, the second of them champion."""

    uri: str
    name: str
    run_id: str
    artifacts: Path


def tiny_network(seed: int, *, mask: bool = True) -> keras.Model:
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(moving_variance_initializer="ones")(x)
    x = layers.Activation("relu")(x)
    pooled = layers.GlobalAveragePooling2D()(x)
    wide = keras.initializers.RandomNormal(stddev=5.0, seed=seed)
    logit = layers.Dense(1, name="malignancy_logit", kernel_initializer=wide)(pooled)
    outputs = {"malignancy": layers.Activation("sigmoid", name="malignancy")(logit)}
    if mask:
        pixel = layers.Conv2D(1, 3, padding="same", name="mask_logit", kernel_initializer=wide)(x)
        outputs["mask"] = layers.Activation("sigmoid", name="mask")(pixel)
    network = keras.Model(image, outputs)
    # Compiled and fitted, as a checkpoint is: the package must hold none of that state.
    network.compile("adam", dict.fromkeys(outputs, "binary_crossentropy"))
    targets = {"malignancy": np.ones((2, 1)), "mask": np.ones((2, SIZE, SIZE, 1))}
    network.fit(np.zeros((2, SIZE, SIZE, 3)), {k: targets[k] for k in outputs}, verbose=0)
    return network


def speckle(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A gray image 0-255 with a dark ellipse."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows / height - 0.5) / 0.3) ** 2 + ((columns / width - 0.4) / 0.2) ** 2 < 1
    return np.clip(rng.rayleigh(60, (height, width)) * np.where(inside, 0.3, 1.0), 0, 255).astype(np.uint8)


def write_tiny_members(folder: Path) -> list[Path]:
    """Two tiny networks as `.keras` files in a folder."""
    paths = [folder / f"{seed}.keras" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        tiny_network(seed).save(path)
    return paths


def write_tiny_package(folder: Path, members: list[Path]) -> Path:
    """The package of those networks in a new folder."""
    from bus_mlops.packaging.package import write_package

    return write_package(
        folder,
        members,
        input_size=SIZE,
        color="gray",
        threshold=0.4,
        metadata=METADATA,
        example_image=speckle(120, 150),
    )
