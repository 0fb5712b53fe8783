"""Files or bytes -> one complete still picture, as its file holds it; hostile input is refused by name."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from bus_mlops.errors import ImageError, ImageSizeError
from bus_mlops.files import printable
from bus_mlops.images import jpeg

MAX_PIXELS = 100_000_000
# The geometry pads an image to a square: a long strip of few pixels would take gigabytes.
MAX_SIDE = 16_384
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "PPM")
_ORIENTATION, _PHOTOMETRIC = 0x0112, 262
# What else is found under the name of an image, and what to do with it.
_FOREIGN = (
    (rb"(?s).{128}DICM|\x02\x00\x00\x00UL|\x08\x00[\x00-\x20]\x00", "a DICOM file", "Export the frame as PNG or TIFF"),
    (rb"(?s).{4}ftyp(hei|hev|mif|msf|avi)", "a HEIC or AVIF picture", "Convert it to PNG or JPEG"),
    (rb"(?s).{4}ftyp|(?s:RIFF....AVI )|\x1a\x45\xdf\xa3", "a video", "Save the frame that is meant as a still image"),
    (rb"\x00\x05\x16[\x00\x07]", "a file that macOS put beside the image of that name", "Remove it"),
    (rb"%PDF", "a PDF", "Export the image from it as PNG"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive", "Unpack it"),
)


class Decoded(NamedTuple):
    """An image as its file holds it, with what PIL knows of the file only until the pixels are loaded.

    Attributes:
        name: For messages.
        layout: Of the values in the file, as PIL calls it: `raw I;12`, `zip RGB;16B`, `ppm 4095`.
        white_is_zero: As a TIFF may say.
    """

    image: Image.Image
    name: str
    layout: str
    white_is_zero: bool


def open_image(source: Path | bytes, what: str) -> Decoded:
    """The one complete still picture of a file, upright.

    Args:
        source: The file or its bytes.
        what: Stands for the name where there is none.

    Raises:
        ImageError: As in `decode_image`.
    """
    name = printable(source) if isinstance(source, Path) else what
    data = read_file(source, name) if isinstance(source, Path) else source
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again.")
    try:
        with _refusing_truncated():
            return _load(data, name)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageSizeError(
            f"{name} claims more than {MAX_PIXELS:,} pixels. No scanner writes that: replace or remove it."
        ) from None
    except UnidentifiedImageError as error:
        for pattern, kind, remedy in _FOREIGN:
            if re.match(pattern, data):
                raise ImageError(f"{name} is not an image that can be read, but {kind}. {remedy}.") from error
        raise ImageError(f"{name} is not an image. Copy or download it again, or remove it.") from error
    except Exception as error:  # hostile bytes surface as almost any exception of PIL's parsers
        reason = f"is damaged ({type(error).__name__}: {error})"
        raise ImageError(f"{name} {reason}. Copy or download it again, or remove it.") from error


def claimed_pixels(data: bytes) -> int:
    """How many pixels an image file says it has, without decoding them; 0 where it is no image."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as head:
            width, height = head.size
            return int(width * height)
    except Exception:  # hostile bytes surface as almost any exception; whoever decodes them says which
        return 0


def _load(data: bytes, name: str) -> Decoded:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as head:
        width, height = head.size
        frames = 1 if head.format == "MPO" else getattr(head, "n_frames", 1)
        _require_still(name, width, height, frames)
        if head.format == "PNG":
            head.verify()  # the checksums of all chunks, which decoding alone passes over
    image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    layout, white_is_zero = _layout(image), getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    image.load()
    if image.format in ("JPEG", "MPO"):
        jpeg.require_whole(data, image, name)
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return Decoded(image, name, layout, white_is_zero)


def _layout(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    codec, arguments = tiles[0].codec_name, tiles[0].args
    if codec.startswith("ppm"):
        return f"ppm {arguments[-1]}"
    return f"{codec} {arguments if isinstance(arguments, str) else arguments[0]}"


_LOCK, _HOLDERS = threading.Lock(), [0, 0]  # of the switch below: how many hold it, and how it stood before


@contextmanager
def _refusing_truncated() -> Iterator[None]:
    """Programs that train elsewhere let PIL fill up truncated files, for the whole process; here none is."""
    with _LOCK:
        if _HOLDERS[0] == 0:
            _HOLDERS[1] = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _HOLDERS[0] += 1
    try:
        yield
    finally:
        with _LOCK:
            _HOLDERS[0] -= 1
            if _HOLDERS[0] == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = bool(_HOLDERS[1])


def read_file(path: Path, name: str) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: There is none that can be read.
    """
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
        raise ImageError(
            f"{name} holds {frames} frames (an animation, or several pages). Save the one that is meant as a still "
            "image."
        )
