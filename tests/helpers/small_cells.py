"""Small specifications and images whose malignant ones can be told from the benign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bus_mlops.config import Training
from bus_mlops.extensions import load_extensions
from bus_mlops.models import zoo
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.spec import RunSpec, Task


class Data(NamedTuple):
    """images uint8 (N, S, S), labels (N,), masks uint8 (N, S, S)."""

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


# As narrow as they get.
OPTIONS: dict[str, dict[str, bool | int | float | str]] = {
    "mt_estan": {"width": 0.0625, "encoder": "mobilenet"},
    "estan": {"width": 0.0625},
}


# Networks of a few layers, where what is tested is not the network: MobileNet takes ten times as long to trace.
# `small_in_the_zoo` registers them (their `backbone`, whose features are none, lets them be scaled as MobileNet is).
SMALL, SMALL_MULTITASK, SMALL_MASK = (
    NetworkEntry(
        name=name,
        label="Small",
        task=task,
        input_size=64 if task.segments else 32,
        builder=f"small_cells:{name}",
        backbone="mobilenet",
        source="a test",
    )
    for name, task in (
        ("small", Task.CLASSIFICATION),
        ("small_multitask", Task.MULTITASK),
        ("small_mask", Task.SEGMENTATION),
    )
)
_TASKS = {entry.name: entry.task for entry in (SMALL, SMALL_MULTITASK, SMALL_MASK)}


def small(*, input_size: int, scaling: str, dropout: float, task: Task = Task.CLASSIFICATION) -> Any:
    """Two convolutions with batch normalisation, and a head with dropout, one for masks, or both."""
    import keras

    from bus_mlops.models.blocks import conv_norm_relu, malignancy_head, mask_head
    from bus_mlops.models.scaling import scale

    image = keras.Input((input_size, input_size, 3), name="image")
    x = conv_norm_relu(scale(image, scaling, "mobilenet"), 16, 3, "first")
    x = conv_norm_relu(keras.layers.MaxPooling2D(4)(x), 64, 3, "second")
    outputs = {}
    if task.classifies:
        pooled = keras.layers.GlobalAveragePooling2D()(x)
        outputs["malignancy"] = malignancy_head(pooled, (64, 32), (dropout, 0))
    if task.segments:
        outputs["mask"] = mask_head(keras.layers.UpSampling2D(4)(x))
    return keras.Model(image, outputs)


small_multitask = partial(small, task=Task.MULTITASK)
small_mask = partial(small, task=Task.SEGMENTATION)


@contextmanager
def small_in_the_zoo(empty: Path) -> Iterator[None]:
    """The networks of a few layers are in the zoo, and nothing that an earlier test took from a project is.

    Args:
        empty: A folder with nothing in it.
    """
    load_extensions(empty)
    for entry in (SMALL, SMALL_MULTITASK, SMALL_MASK):
        zoo.register(entry)
    try:
        yield
    finally:
        zoo.NETWORKS.forget("small_cells")


def make_spec(network: str = "mobilenet", **training: object) -> RunSpec:
    """A short training from scratch at 32 px (networks that segment: 64 px)."""
    task = _TASKS.get(network) or zoo.entry(network).task
    values: dict[str, Any] = {
        "input_size": 64 if task.segments else 32,
        "weights": "random",
        "scaling": "unit" if task is Task.SEGMENTATION else "imagenet",
        "epochs": 2,
        "batch_size": 16,
        "batch_norm_momentum": 0.8,
        "augmentation": {"horizontal_flip": True, "height_shift": 0.1, "width_shift": 0.1, "rotation": 10},
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        **training,
    }
    return RunSpec(
        network=network,
        options=OPTIONS.get(network, {}),
        cohort=("busi",),
        task=task,
        training=Training.model_validate(values),
        seed=0,
    )


def make_data(count: int, size: int, seed: int = 0) -> Data:
    """Noise with a disc: dark and large when malignant, bright and small when benign."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    y, x = np.mgrid[:size, :size] / size
    centres = rng.uniform(0.35, 0.65, (count, 2))
    radius = np.where(labels == 1, 0.28, 0.16)
    distance = np.hypot(x - centres[:, 0, None, None], y - centres[:, 1, None, None])
    masks = (distance < radius[:, None, None]).astype(np.uint8)
    level = np.where(labels == 1, 20, 220)[:, None, None]
    images = np.where(masks == 1, level, 120) + rng.normal(0, 12, masks.shape)
    return Data(images.clip(0, 255).astype(np.uint8), labels, masks)
