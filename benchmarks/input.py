"""How fast the augmentation is against Keras's legacy ImageDataGenerator, on one core, in one run.

    python benchmarks/input.py --sizes 96 224

Both make batches of 32 with the paper's four augmentations out of uint8 arrays in memory, float32 comes out. With
masks the generator runs twice with one seed, as its users do; ours moves image and mask by one draw. They take
batches in turn. Rates are from CPU seconds, which hold on a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from bus_mlops import limits

BATCH = 32
# Ours are measured in one call of a graph, as they are in a training step.
AT_ONCE = 10
STRENGTHS = {"horizontal_flip": 1, "height_shift": 0.2, "width_shift": 0.2, "zoom": 0, "shear": 0, "rotation": 20}


def main() -> None:
    """Print a line for each size, number of channels, with and without masks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 224])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, limits.cores()[:1])
    from bus_mlops.training.process import configure_process

    configure_process(1)
    rng = np.random.default_rng(0)
    for size in arguments.sizes:
        for channels in (1, 3):
            images = rng.integers(0, 256, (BATCH, size, size, channels), dtype=np.uint8)
            for masks in (None, rng.integers(0, 2, (BATCH, size, size), dtype=np.uint8)):
                ours, theirs = rates(our_batches(images, masks), keras_batches(images, masks), arguments.rounds)
                what = f"{size} px, {channels} channel{'s' * (channels > 1)}, {'no' if masks is None else 'with'} masks"
                print(f"{what:33s} ours {ours:6.0f} images a second, Keras {theirs:5.0f}, {ours / theirs:5.1f} times")


def rates(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Images a second of both, which take turns; medians."""
    ours(), theirs()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for way, spent, batches in ((ours, seconds[0], AT_ONCE), (theirs, seconds[1], 1)):
            started = time.process_time()
            way()
            spent.append((time.process_time() - started) / batches)
    return BATCH / statistics.median(seconds[0]), BATCH / statistics.median(seconds[1])


def our_batches(images: np.ndarray, masks: np.ndarray | None) -> Callable[[], object]:
    """A function that augments `AT_ONCE` batches."""
    import tensorflow as tf

    from bus_mlops.training.augmentation import Strengths, augment

    strengths = Strengths(**{name: tf.Variable(float(value)) for name, value in STRENGTHS.items()})
    given = tf.constant(images), None if masks is None else tf.constant(masks)

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def run() -> Any:
        seen = tf.constant(0.0)
        for step in tf.range(AT_ONCE):
            for result in augment(*given, strengths, tf.constant(1), step):
                # Something must be read, or the graph would leave it out.
                seen += 0.0 if result is None else tf.reshape(result, [-1])[0]
        return seen

    return lambda: run().numpy()


def keras_batches(images: np.ndarray, masks: np.ndarray | None) -> Callable[[], object]:
    """A function that makes one batch."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    flows = []
    for order, given in ((1, images), (0, masks)):
        if given is not None:
            generator = ImageDataGenerator(
                rotation_range=20,
                width_shift_range=0.2,
                height_shift_range=0.2,
                horizontal_flip=True,
                fill_mode="nearest",
                interpolation_order=order,
            )
            pixels = given if given.ndim == 4 else given[..., np.newaxis]
            flows.append(generator.flow(pixels, batch_size=BATCH, shuffle=False, seed=1))
    return lambda: [next(flow) for flow in flows]


if __name__ == "__main__":
    main()
