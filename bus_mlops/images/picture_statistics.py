"""What can be counted in a picture without knowing what it shows: gray levels, edges, texture, layers.

A model's rule of refusal is computed from these numbers, at promotion and by every consumer alike: numpy and Pillow
only, and no network.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

# A package names the version that its rule was fitted to: raise it when a number changes.
STATISTICS_VERSION = 1
SIDE = 64
# Up to this gray level a row or column is taken for the border around a picture, in its mean.
_BLACK = 4
_SCALES = 3


def picture_statistics(square: Pixels) -> Floats:
    """The numbers of one picture, all finite, whatever it shows.

    Args:
        square: (S, S) or (S, S, 3), 0-255, as `geometry.prepare` gives it; black borders are cut off.

    Returns:
        (71,): the shares of gray levels, edges and their tails at three scales, directions, the means of layers and
        columns, symmetry, correlations of neighbours, and how the contrast differs from place to place.
    """
    gray = square if square.ndim == 2 else np.asarray(Image.fromarray(square).convert("L"))
    inner = Image.fromarray(_inside(gray)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    picture = np.asarray(inner, np.float64) / 255
    parts = (_levels, _edges, _directions, _layers, _correlations, _places)
    numbers = [number for part in parts for number in part(picture)]
    return np.array([*numbers, float((gray < _BLACK).mean())], np.float64)


def _inside(gray: Pixels) -> Pixels:
    rows, columns = (np.flatnonzero(gray.mean(axis=axis) > _BLACK) for axis in (1, 0))
    if min(len(rows), len(columns)) < 8:  # nothing is left of it
        return gray
    return np.ascontiguousarray(gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _levels(picture: Floats) -> Iterator[float]:
    yield from np.quantile(picture, [0.05, 0.25, 0.5, 0.75, 0.95])
    yield from (picture.mean(), picture.std(), (picture < 0.02).mean(), (picture > 0.98).mean())


def _edges(picture: Floats) -> Iterator[float]:
    """How strong differences of neighbours are, and how heavy their tails: text has few strong ones."""
    for _ in range(_SCALES):
        across, down = np.diff(picture, axis=1), np.diff(picture, axis=0)
        inner = picture[1:-1, 1:-1]
        around = picture[:-2, 1:-1] + picture[2:, 1:-1] + picture[1:-1, :-2] + picture[1:-1, 2:]
        peaks = 4 * inner - around
        contrast = picture.std() + 0.01
        for values in (across, down, peaks):
            power = float(np.square(values).mean())
            yield np.log(np.sqrt(power) / contrast + 1e-3)
            yield np.log((values**4).mean() / (power + 1e-5) ** 2 + 1)
            yield np.log(np.abs(values).mean() / np.sqrt(power + 1e-5) + 1e-2)
        half = picture.shape[0] // 2
        picture = picture.reshape(half, 2, half, 2).mean(axis=(1, 3))


def _directions(picture: Floats) -> Iterator[float]:
    across, down = picture[1:-1, 2:] - picture[1:-1, :-2], picture[2:, 1:-1] - picture[:-2, 1:-1]
    strength = np.hypot(across, down)
    shares = np.histogram(np.arctan2(down, across) % np.pi, 6, (0, np.pi), weights=strength)[0]
    yield from shares / (strength.sum() + 1e-3)


def _layers(picture: Floats) -> Iterator[float]:
    """Skin, fat, gland and muscle lie above each other, and depth darkens."""
    level = picture.mean() + 0.02
    yield from picture.reshape(8, -1).mean(axis=1) / level
    yield from picture.reshape(SIDE, 4, -1).mean(axis=(0, 2)) / level


def _correlations(picture: Floats) -> Iterator[float]:
    own = (picture - picture.mean()) / (picture.std() + 0.01)
    yield from ((own * own[:, ::-1]).mean(), (own * own[::-1]).mean())
    for lag in (1, 2, 4, 8):
        yield from ((own[:, lag:] * own[:, :-lag]).mean(), (own[lag:] * own[:-lag]).mean())
    around = sum(np.roll(picture, step, axis) for step in (1, -1) for axis in (0, 1)) / 4
    fine = (picture - around) / ((picture - around).std() + 0.005)
    yield from ((fine[:, 1:] * fine[:, :-1]).mean(), (fine[1:] * fine[:-1]).mean())


def _places(picture: Floats) -> Iterator[float]:
    """Contrast of 64 places, and whether it goes with brightness."""
    tiles = picture.reshape(8, 8, 8, 8).transpose(0, 2, 1, 3).reshape(64, 64)
    level, contrast = tiles.mean(axis=1), tiles.std(axis=1)
    together = ((level - level.mean()) * (contrast - contrast.mean())).mean()
    yield together / (level.std() * contrast.std() + 1e-5)
    yield from (np.log(np.median(contrast) + 0.01), np.log(contrast.max() + 0.01), (contrast < 0.01).mean())
