"""The ways an image may come to a model, and the way its answers go back into the image's own pixels.

Needs only numpy and PIL, as every consumer has them.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bus_mlops.errors import ImageError, ImageSizeError
from bus_mlops.files import printable
from bus_mlops.images.color import color_share
from bus_mlops.images.decode import decode_image, decode_with_color
from bus_mlops.images.opening import MAX_SIDE, read_file


class Base64(str):
    """The bytes of an image file as a base64 string; a plain string is a path."""


Image = Path | str | bytes | np.ndarray
MASK_THRESHOLD = 0.5
# Nothing a scanner writes lies outside.
SIDES = range(16, MAX_SIDE + 1)


def from_base64(text: str) -> bytes:
    """The bytes behind a base64 string; line breaks are allowed.

    Raises:
        ImageError: It is none.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ImageError(f"not base64: {text[:40]!r}. Send the image file's bytes, base64-encoded.") from None


def contents(image: Image) -> bytes | NDArray[Any]:
    """What an image is told by: the bytes of its file, read once, or an array as it was given.

    Raises:
        ImageError: The file cannot be read, or it is none of what a model takes.
    """
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Base64):
        return from_base64(image)
    if isinstance(image, str | Path):
        return read_file(Path(image), printable(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    raise ImageError(f"an image is a path, bytes, Base64 or a uint8 array but got {type(image).__name__}.")


def read_pixels(image: Image, color: Literal["gray", "rgb"], what: str = "the image") -> NDArray[np.uint8]:
    """The uint8 pixels (H, W) or (H, W, 3), 0-255, of any image a model takes.

    Args:
        image: As in `contents`, or what that returned.
        color: What is wanted.
        what: Stands in messages for the name of an image that has none.

    Raises:
        ImageError: It cannot be read, or is an array of another kind.
    """
    content = contents(image)
    if isinstance(image, str | Path) and not isinstance(image, Base64):
        what = printable(image)
    return _array_pixels(content, color)[0] if isinstance(content, np.ndarray) else decode_image(content, color, what)


def read_with_color(
    content: bytes | NDArray[Any], color: Literal["gray", "rgb"], what: str
) -> tuple[NDArray[np.uint8], float]:
    """The same pixels of what `contents` returned, and the share (0-1) of it that is coloured.

    Raises:
        ImageError: As `read_pixels`.
    """
    return _array_pixels(content, color) if isinstance(content, np.ndarray) else decode_with_color(content, color, what)


def require_size(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same pixels.

    Raises:
        ImageSizeError: A side is not between 16 and 16,384 pixels.
    """
    height, width = pixels.shape[:2]
    if height not in SIDES or width not in SIDES:
        raise ImageSizeError(
            f"the image has {width} x {height} pixels: a side must lie between {SIDES[0]} and {SIDES[-1]}. "
            "Give the image as the scanner wrote it."
        )
    return pixels


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(S, S) repeated into (S, S, 3); colour images stay."""
    return np.repeat(image[..., np.newaxis], 3, axis=-1) if image.ndim == 2 else image


def restore(values: np.ndarray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """From a square (S, S) over the padded image to (H, W) in original pixels, bilinear.

    The inverse of `geometry.prepare`: cuts the padding off and resizes.
    """
    from PIL import Image as Pillow

    height, width = shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    scale = values.shape[0] / side
    box = (left * scale, top * scale, (left + width) * scale, (top + height) * scale)
    square = Pillow.fromarray(values.astype(np.float32))
    return np.asarray(square.resize((width, height), Pillow.Resampling.BILINEAR, box=box))


def restore_mask(probabilities: np.ndarray, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """From the network's square of probabilities (S, S), 0-1, to a mask (H, W) of 0 and 1, split at 0.5."""
    return (restore(probabilities, shape) >= MASK_THRESHOLD).astype(np.uint8)


def mask_png(mask: np.ndarray) -> bytes:
    """A mask of 0 and 1 as the bytes of a black and white (0, 255) PNG."""
    return png(mask * np.uint8(255))


def png(pixels: np.ndarray) -> bytes:
    """uint8 pixels (H, W), (H, W, 3) or (H, W, 4) as the bytes of a PNG."""
    from PIL import Image as Pillow

    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _array_pixels(image: np.ndarray, color: Literal["gray", "rgb"]) -> tuple[NDArray[np.uint8], float]:
    from PIL import Image as Pillow

    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise ImageError(
            f"an image array must be uint8 (H, W) or (H, W, 3) of 0-255 but is {image.dtype} {image.shape}."
        )
    picture = Pillow.fromarray(image)
    return np.asarray(picture.convert("L" if color == "gray" else "RGB")), color_share(picture)
