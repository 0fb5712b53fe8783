"""The same scan as another scanner or another hand would have given it: cut, gain, gamma, blur, noise, mirrored.

A rule that tells ultrasound from other pictures learns from one or two scanners. These copies tell it which
differences do not matter.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from bus_mlops.promotion.odd_pictures import Pixels

_BLACK = 4
_LEAST_SIDE = 16


def perturbed(gray: Pixels, rng: np.random.Generator) -> Pixels:
    """Another look at a picture (H, W), 0-255, without its black borders; no larger than it."""
    rows, columns = (np.flatnonzero(gray.max(axis=axis) > _BLACK) for axis in (1, 0))
    if min(len(rows), len(columns)) < _LEAST_SIDE:
        return gray
    inner = gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(_LEAST_SIDE, int(side * rng.uniform(0.6, 1))) for side in inner.shape)
    top, left = rng.integers(0, inner.shape[0] - height + 1), rng.integers(0, inner.shape[1] - width + 1)
    look = inner[top : top + height, left : left + width] / 255
    if rng.random() < 0.5:
        look = look[:, ::-1]
    look = look ** np.exp(rng.uniform(-0.6, 0.6)) * np.exp(rng.uniform(-0.4, 0.3)) + rng.uniform(-0.1, 0.06)
    if rng.random() < 0.5:
        look = gaussian_filter(look, rng.uniform(0.3, 1.3))
    if rng.random() < 0.3:
        look = look + rng.normal(0, rng.uniform(0.01, 0.03), look.shape)
    return np.asarray(np.clip(255 * look, 0, 255), np.uint8)
