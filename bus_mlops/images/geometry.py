"""Crop, pad to a centred square, resize: the one geometry that the pipeline and every consumer share.

Needs only numpy and PIL, so that a consumer without the pipeline gets the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Raise it when the pixels that come out change: every digest of the benchmark changes with it.
GEOMETRY_VERSION = 1

Pixels = NDArray[np.uint8]


def crop(image: Pixels, top: int, left: int, height: int, width: int) -> Pixels:
    """The rectangle of an (H, W) or (H, W, 3) image, in pixels.

    Raises:
        ValueError: It leaves the image.
    """
    rows, columns = image.shape[:2]
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > rows or left + width > columns:
        raise ValueError(
            f"the crop (rows {top} to {top + height}, columns {left} to {left + width}) leaves the image of "
            f"{rows} rows and {columns} columns"
        )
    return image[top : top + height, left : left + width]


def pad_to_square(image: Pixels) -> Pixels:
    """Pad with zeros to a centred square: floor of the difference to the top or left, the rest opposite.

    Paper, section 3.1; also right where width and height differ by one.

    >>> pad_to_square(np.ones((3, 2), np.uint8))
    array([[1, 1, 0],
           [1, 1, 0],
           [1, 1, 0]], dtype=uint8)
    """
    height, width = image.shape[:2]
    if height == width:
        return image
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, *image.shape[2:]), dtype=image.dtype)
    square[top : top + height, left : left + width] = image
    return square


def prepare(image: Pixels, size: int) -> Pixels:
    """An (H, W) or (H, W, 3) uint8 image, 0-255, as its (size, size) or (size, size, 3) square.

    The filter is PIL's bilinear one: a triangle that widens with the ratio when shrinking (so it averages
    over the area and does not alias), plain bilinear interpolation when enlarging, continuous between.
    """
    return _resize(pad_to_square(image), size, Image.Resampling.BILINEAR)


def prepare_mask(mask: NDArray[np.bool_] | Pixels, size: int) -> Pixels:
    """An (H, W) mask as its (size, size) square of 0 and 1, nearest neighbour, aligned with `prepare`."""
    square = pad_to_square(np.asarray(mask, dtype=np.uint8))
    return _resize(square, size, Image.Resampling.NEAREST)


def _resize(square: Pixels, size: int, resampling: Image.Resampling) -> Pixels:
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel but got {size}")
    if square.shape[0] == size:
        return np.ascontiguousarray(square)
    return np.asarray(Image.fromarray(square).resize((size, size), resampling))
