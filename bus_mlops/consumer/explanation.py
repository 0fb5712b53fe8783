"""Which part of an image speaks for malignancy: the fall of the probability when that part is covered.

Occlusion sensitivity (Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014, section 4.2).
It asks the packaged networks only, so it works with ONNX and needs no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bus_mlops.images.model_input import png, restore

# 64 covered copies an image: fine enough to point at a lesion, few enough to wait for.
GRID = 8
BATCH = 16
# Below this change of probability nothing is worth colouring.
LEAST = 0.01


def occlusion_map(
    square: NDArray[np.uint8],
    probability: float,
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """The map (H, W), -1 to 1: probability of the image minus probability with that place covered.

    The cover is the image's mean, since black would look like a shadow or a cyst. Places of the padding are covered
    too, and cut off.

    Args:
        square: The network's input (S, S, 3), 0-255.
        probability: Of the image as it is (0-1).
        predict: Takes (B, S, S, 3) and returns B probabilities (0-1).
        shape: (H, W) of the original image.
    """
    covered = np.concatenate([predict(batch) for batch in _batches(square)])
    falls = (probability - covered).reshape(GRID, GRID)
    return restore(falls, shape)


def heat_png(values: NDArray[np.float32]) -> bytes:
    """A map as a transparent PNG to lay over the image: red speaks for malignancy, blue against it.

    The opacity is the share of the greatest absolute value in the map.
    """
    strength = np.abs(values) / max(float(np.abs(values).max()), LEAST)
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., 0] = np.where(values > 0, 255, 0)
    pixels[..., 2] = np.where(values < 0, 255, 0)
    pixels[..., 3] = np.round(strength * 255)
    return png(pixels)


def _batches(square: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    edges = np.linspace(0, square.shape[0], GRID + 1).round().astype(int)
    mean = square.mean()
    places = [(row, column) for row in range(GRID) for column in range(GRID)]
    for start in range(0, len(places), BATCH):
        chunk = places[start : start + BATCH]
        batch = np.repeat(square[np.newaxis].astype(np.float32), len(chunk), axis=0)
        for copy, (row, column) in zip(batch, chunk, strict=True):
            copy[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = mean
        yield batch
