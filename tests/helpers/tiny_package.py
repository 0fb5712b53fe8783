"""A tiny but real multitask network, an image for it, and what its package says of itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

    from bus_mlops.consumer.refusal import Oddity

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


def oddity(**changes: object) -> Oddity:
    """Odd is what has many white pixels."""
    from bus_mlops.consumer.refusal import Oddity
    from bus_mlops.images.picture_statistics import STATISTICS_VERSION

    weights = [0.0] * 71
    weights[8] = 1.0
    values = {
        "statistics_version": STATISTICS_VERSION,
        "center": [0.0] * 71,
        "scale": [0.1] * 71,
        "linear": weights,
        "square": [0.0] * 71,
        "bias": 0.0,
        "threshold": 1.0,
        "rate": 0.01,
        "images": 100,
    }
    return Oddity.model_validate(values | changes)


def write_refusing_package(folder: Path, source: Path) -> Path:
    """A copy of a package that refuses white pictures, and is uncertain of all others."""
    from bus_mlops.consumer.package_files import write_sums
    from bus_mlops.consumer.package_format import PACKAGE_FILE
    from bus_mlops.consumer.refusal import Refusal, TriageRule

    rule = TriageRule(miss_rate=0.05, false_alarm_rate=0.1, malignant_cases=40, benign_cases=40, low=0.0, high=1.0)
    shutil.copytree(source, folder)
    about = json.loads((folder / PACKAGE_FILE).read_text())
    about["refusal"] = Refusal(oddity=oddity(), triage=rule).model_dump(mode="json")
    (folder / PACKAGE_FILE).write_text(json.dumps(about))
    write_sums(folder)
    return folder
