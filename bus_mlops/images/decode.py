"""Files or bytes -> pixels of 8 bits, by one rule each for depth, colour and transparency.

Needs only numpy and PIL, so that a consumer without the pipeline decodes exactly as the pipeline does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.errors import ImageError
from bus_mlops.images.color import color_share
from bus_mlops.images.opening import Decoded, open_image

Color = Literal["gray", "rgb"]

# The depths, in bits, that scanners write into wider values.
_DEPTHS = (8, 10, 12, 14, 16)
# Transparency is laid on black as long as no more of the picture than this is lost by it.
_MOST_HIDDEN = 0.05
_OPAQUE = 250


def decode_image(source: Path | bytes, color: Color = "gray", what: str = "the image") -> NDArray[np.uint8]:
    """The pixels of an image, 0-255: (H, W) for gray, (H, W, 3) for rgb.

    The content decides the format, never the suffix; of a phone's JPEG of several frames (MPO) the first is taken.
    EXIF orientation is applied; palette, CMYK and 1-bit images are converted; gray is ITU-R 601 luma.

    - Gray values of more than 8 bits are scaled from the range of their depth, which is the least of 8, 10, 12, 14 and
      16 bits that holds the greatest value, unless the file declares it.
    - An alpha channel of one value throughout says nothing and is ignored. Other transparency is laid on black, unless
      more than a twentieth of the pixels is half transparent, or is transparent with a picture beneath.

    Args:
        source: The file or its bytes.
        color: What is wanted.
        what: Stands in messages for the name of bytes.

    Raises:
        ImageError: The file, which it names, is not one complete still image of at most 100 million pixels, or its
            depth or transparency fits none of these rules.
        ImageSizeError: It claims more pixels than that, or a side of more than 16,384.
    """
    decoded = open_image(source, what)
    with conversion_errors(decoded):
        return _converted(_eight_bit(decoded), color)


def decode_with_color(source: Path | bytes, color: Color, what: str) -> tuple[NDArray[np.uint8], float]:
    """The same pixels, and the share (0-1) of the picture that was coloured before they were converted."""
    decoded = open_image(source, what)
    with conversion_errors(decoded):
        flat = _eight_bit(decoded)
        return _converted(flat, color), color_share(flat)


def _converted(flat: Image.Image, color: Color) -> NDArray[np.uint8]:
    target = "L" if color == "gray" else "RGB"
    return np.asarray(flat if flat.mode == target else flat.convert(target), dtype=np.uint8)


@contextmanager
def conversion_errors(decoded: Decoded) -> Iterator[None]:
    """Turn PIL's refusal to convert a mode into an ImageError that names file and mode."""
    try:
        yield
    except (OSError, ValueError) as error:
        mode = decoded.image.mode
        raise ImageError(f"{decoded.name}: mode {mode} cannot be converted ({error}). Save it as PNG.") from error


def is_deep(image: Image.Image) -> bool:
    """Whether it holds gray values of 16 or 32 bits."""
    return image.mode == "I" or image.mode.startswith("I;16")


def scaled(decoded: Decoded) -> NDArray[np.uint8]:
    """Gray values of 16 or 32 bits as 0-255, rounded, by the rule of depths in `decode_image`.

    Raises:
        ImageError: A value is negative or needs more than 16 bits.
    """
    image, name, layout, white_is_zero = decoded
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(f"{name}: values from {low} to {high} do not fit 16 bits. Save it as 8-bit PNG.")
    if layout.startswith("ppm"):  # PIL has scaled it from the greatest value that the file declares
        depth = 16
    elif layout == "raw I;12":
        depth = 12
    else:
        depth = next(bits for bits in _DEPTHS if high < 2**bits)
    full = 2**depth - 1
    if white_is_zero:  # PIL turns 8 bits round, but not 16
        values = full - values
    eight: NDArray[np.uint8] = ((values * 255 + full // 2) // full).astype(np.uint8)
    return eight


def require_eight_bit_color(decoded: Decoded, least: int) -> None:
    """PIL keeps the upper 8 of 16 bits a colour.

    Raises:
        ImageError: There were 16, and the greatest of the upper 8 (0-255) is below `least`: what they hold is lost.
    """
    image, name, layout, _ = decoded
    if ";16" not in layout and layout != "ppm 65535":
        return
    high = max(int(np.asarray(band).max()) for band in image.convert("RGB").split())
    if high < least:
        raise ImageError(
            f"{name} holds 16 bits a colour, of which the upper 8 can be read: the brightest is {high} of 255, and the "
            "rest would be lost. Save it with 8 bits a colour, as PNG."
        )


def _eight_bit(decoded: Decoded) -> Image.Image:
    """The image in mode L or RGB."""
    image, name, *_ = decoded
    if is_deep(image):
        return Image.fromarray(scaled(decoded))
    if image.mode == "F":
        raise ImageError(f"{name} holds floating-point pixels of unknown range. Save it as 8-bit PNG.")
    if image.has_transparency_data:
        image = _laid_on_black(image.convert("RGBA"), name)
    require_eight_bit_color(decoded, least=64)
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _laid_on_black(layer: Image.Image, name: str) -> Image.Image:
    pixels = np.asarray(layer)
    alpha = pixels[..., 3]
    if alpha.min() == alpha.max():
        return layer.convert("RGB")
    half, hidden = (alpha > 0) & (alpha < _OPAQUE), alpha == 0
    beneath = pixels[hidden][:, :3]
    if half.mean() > _MOST_HIDDEN or (hidden.mean() > _MOST_HIDDEN and np.ptp(beneath, axis=0).any()):
        raise ImageError(
            f"{name} is transparent in {np.mean(alpha < _OPAQUE):.0%} of its pixels, and what is hidden there cannot "
            "be told from the picture. Save it without transparency."
        )
    black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, layer).convert("RGB")
