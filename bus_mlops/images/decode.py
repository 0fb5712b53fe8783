"""Files or bytes -> pixels, the same for every mode an image may come in; hostile input is refused by name.

Needs only numpy and PIL, so that a consumer without the pipeline decodes exactly as the pipeline does.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bus_mlops.errors import ImageError, ImageSizeError

Color = Literal["gray", "rgb"]

MAX_PIXELS = 100_000_000
# The geometry pads an image to a square: a long strip of few pixels would take gigabytes.
MAX_SIDE = 16_384
MASK_THRESHOLD = 127
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "PPM")
_ORIENTATION = 0x0112


def decode_image(source: Path | bytes, color: Color = "gray") -> NDArray[np.uint8]:
    """The pixels of an image, 0-255: (H, W) for gray, (H, W, 3) for rgb.

    The content decides the format, never the suffix. EXIF orientation is applied, transparency is laid on
    black, palette, CMYK and 1-bit images are converted, 16-bit ones are scaled from their full range
    (0-65535 to 0-255); gray is ITU-R 601 luma.

    Raises:
        ImageError: The file, which it names, is not one complete still image of at most 100 million pixels.
        ImageSizeError: It claims more pixels than that, or a side of more than 16,384.
    """
    name = str(source) if isinstance(source, Path) else "the image"
    return _pixels(_open(source, name), name, color)


def decode_mask(source: Path | bytes) -> NDArray[np.bool_]:
    """A mask file as (H, W) booleans: true where it is brighter than 127.

    Raises:
        ImageError: As in `decode_image`; also for a mask whose values stop short of the threshold (one that was
            stored as 0 and 1), since it would silently turn out empty.
    """
    values = decode_image(source, "gray")
    top = int(values.max())
    if 0 < top <= MASK_THRESHOLD:
        name = str(source) if isinstance(source, Path) else "the mask"
        raise ImageError(f"{name}: its brightest pixel is {top}, a mask must be 0 and 255. Save it so.")
    return values > MASK_THRESHOLD


def _open(source: Path | bytes, name: str) -> Image.Image:
    data = _read(source, name) if isinstance(source, Path) else source
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again.")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as head:
            width, height = head.size
            frames = getattr(head, "n_frames", 1)
            _require_still(name, width, height, frames)
            if head.format == "PNG":
                head.verify()  # the checksums of all chunks, which decoding alone passes over
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.load()
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return image
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageSizeError(
            f"{name} claims more than {MAX_PIXELS:,} pixels. No scanner writes that: replace or remove it."
        ) from None
    except Exception as error:  # hostile bytes surface as almost any exception of PIL's parsers
        reason = "is not an image" if isinstance(error, UnidentifiedImageError) else "is damaged"
        detail = "" if isinstance(error, UnidentifiedImageError) else f" ({type(error).__name__}: {error})"
        raise ImageError(f"{name} {reason}{detail}. Copy or download it again, or remove it.") from error


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}. Check that it is there.") from error


def _require_still(name: str, width: int, height: int, frames: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageSizeError(
            f"{name} claims {width} x {height} pixels, more than {MAX_PIXELS:,}. No scanner writes that: "
            "replace or remove it."
        )
    if max(width, height) > MAX_SIDE:
        raise ImageSizeError(
            f"{name} has {width} x {height} pixels: its longer side is more than {MAX_SIDE:,}. No scanner writes that: "
            "replace or remove it."
        )
    if width < 1 or height < 1:
        raise ImageSizeError(f"{name} has no pixels ({width} x {height}). Copy or download it again.")
    if frames != 1:
        raise ImageError(f"{name} holds {frames} frames. Save the one that is meant as a still image.")


def _pixels(image: Image.Image, name: str, color: Color) -> NDArray[np.uint8]:
    try:
        flat = _eight_bit(image, name)
        target = "L" if color == "gray" else "RGB"
        return np.asarray(flat if flat.mode == target else flat.convert(target), dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: mode {image.mode} cannot be converted ({error}). Save it as PNG.") from error


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """The image in mode L or RGB, transparency laid on black."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ImageError(f"{name}: values from {low} to {high} do not fit 16 bits. Save it as 8-bit PNG.")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ImageError(f"{name} holds floating-point pixels of unknown range. Save it as 8-bit PNG.")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layer).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")
