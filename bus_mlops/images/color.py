"""How much of a picture is coloured: B-mode ultrasound is gray, or gray seen through one tint.

A photograph may be as smooth and as dark as ultrasound; its colours tell it all the same. Numpy and Pillow only.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

# Pixels that are looked at, along each side.
_SIDE = 96
# Brightnesses (0-255) that count as one, when the tint of a brightness is looked for.
_STEP = 16
# Distance from the tint, of blue and red chroma (0-255), from which a pixel is coloured.
_COLORED = 10


def color_share(picture: Image.Image) -> float:
    """The share (0-1) of pixels that differ in colour from most others of their brightness; 0 of gray pictures.

    What a scanner's tint does to all pixels of one brightness alike counts as gray.

    Args:
        picture: Of mode L or RGB.

    >>> color_share(Image.new("RGB", (50, 50), "orange"))
    0.0
    """
    if picture.mode == "L":
        return 0.0
    values = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("YCbCr"), np.float64)
    steps, chroma = (values[..., 0].ravel() // _STEP).astype(int), values[..., 1:].reshape(-1, 2)
    distance = np.zeros(len(steps))
    for step in np.unique(steps):
        alike = steps == step
        distance[alike] = np.hypot(*(chroma[alike] - np.median(chroma[alike], axis=0)).T)
    return float((distance > _COLORED).mean())
