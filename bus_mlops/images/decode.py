"""Files or bytes -> pixels, the same for every mode an image may come in; hostile input is refused by name.

Needs only numpy and PIL, so that a consumer without the pipeline decodes exactly as the pipeline does.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from bus_mlops.errors import ImageError, ImageSizeError
from bus_mlops.files import printable

Color = Literal["gray", "rgb"]

MAX_PIXELS = 100_000_000
# The geometry pads an image to a square: a long strip of few pixels would take gigabytes.
MAX_SIDE = 16_384
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "PPM")
_ORIENTATION, _PHOTOMETRIC = 0x0112, 262
# The depths, in bits, that scanners write into wider values.
_DEPTHS = (8, 10, 12, 14, 16)
# Transparency is laid on black as long as no more of the picture than this is lost by it.
_MOST_HIDDEN = 0.05
_OPAQUE = 250
# What the decoder reads on with where a JPEG's own data end early: bits of which some differ from its own filling.
_CONTINUATIONS = (bytes(range(0x55, 0xFF)), bytes(range(0xFE, 0x54, -1)))
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


def decode_image(source: Path | bytes, color: Color = "gray") -> NDArray[np.uint8]:
    """The pixels of an image, 0-255: (H, W) for gray, (H, W, 3) for rgb.

    The content decides the format, never the suffix; of a phone's JPEG of several frames (MPO) the first is taken.
    EXIF orientation is applied; palette, CMYK and 1-bit images are converted; gray is ITU-R 601 luma.

    - Gray values of more than 8 bits are scaled from the range of their depth, which is the least of 8, 10, 12, 14 and
      16 bits that holds the greatest value, unless the file declares it.
    - An alpha channel of one value throughout says nothing and is ignored. Other transparency is laid on black, unless
      more than a twentieth of the pixels is half transparent, or is transparent with a picture beneath.

    Raises:
        ImageError: The file, which it names, is not one complete still image of at most 100 million pixels, or its
            depth or transparency fits none of these rules.
        ImageSizeError: It claims more pixels than that, or a side of more than 16,384.
    """
    decoded = open_image(source, "the image")
    with conversion_errors(decoded):
        flat = _eight_bit(decoded)
        target = "L" if color == "gray" else "RGB"
        return np.asarray(flat if flat.mode == target else flat.convert(target), dtype=np.uint8)


def open_image(source: Path | bytes, what: str) -> Decoded:
    """The one complete still picture of a file, upright.

    Args:
        source: The file or its bytes.
        what: Stands for the name where there is none.

    Raises:
        ImageError: As in `decode_image`.
    """
    name = printable(source) if isinstance(source, Path) else what
    data = _read(source, name) if isinstance(source, Path) else source
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
        _require_whole_jpeg(data, image, name)
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


def _require_whole_jpeg(data: bytes, image: Image.Image, name: str) -> None:
    """Refuse a JPEG whose data end before its picture does: the decoder fills the rest with gray and says nothing.

    Data that follow change nothing in a whole picture, and go on in one that was cut off.
    """
    end, restart = _end_of_jpeg(data)
    pixels = image.tobytes()
    joint = b"\x00" if data[end - 1 : end] == b"\xff" else b""  # the two together are one byte of the picture's data
    for more in _CONTINUATIONS if end else ():
        longer = data[:end] + joint + more + restart + more + data[end:]
        if Image.open(io.BytesIO(longer), formats=_FORMATS).tobytes() != pixels:
            break
    else:
        if end:
            return
    raise ImageError(f"{name} ends early: its last part is missing. Copy or download it again, or remove it.")


def _end_of_jpeg(data: bytes) -> tuple[int, bytes]:
    """Where the marker stands that ends the first picture, and the restart marker that would be due there.

    The place is 0 if the marker is not there, or if it comes before the scans that complete every component.
    """
    at, restarts, progressive = 2, 0, False
    lacking: dict[int, set[int]] = {}  # by component, the coefficients that no scan has given their last bit
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 2:
        marker = data[at + 1]
        if marker == 0xD9:
            return 0 if any(lacking.values()) else at, bytes([0xFF, 0xD0 + restarts % 8])
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            at += 2
            restarts += marker in range(0xD0, 0xD8)
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):  # the frame's header
            progressive = marker in (0xC2, 0xCA)
            lacking = {component: set(range(64)) for component in segment[6::3]}
        elif marker == 0xDA:  # the header of a scan
            first, last, bits = segment[-3:] if progressive else (0, 63, 0)
            restarts = 0
            for component in segment[1:-3:2] if bits & 15 == 0 else ():
                lacking[component] -= set(range(first, last + 1))
        at += 2 + length
    return 0, b""


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
        raise ImageError(
            f"{name} holds {frames} frames (an animation, or several pages). Save the one that is meant as a still "
            "image."
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
