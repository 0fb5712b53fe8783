"""A chunk of records -> rows of the benchmark's arrays; the part of assembly that runs in worker processes.

Imports stay light (numpy, PIL), since every worker process pays for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.errors import BusMlopsError, ImageError
from bus_mlops.files import printable
from bus_mlops.images import geometry
from bus_mlops.images.contrast import require_contrast
from bus_mlops.images.decode import Color, decode_image
from bus_mlops.images.masks import decode_mask
from bus_mlops.sources.record import Record

THUMBNAIL = 64
THUMBNAILS_FILE = "thumbnails.npy"


def images_file(size: int) -> str:
    """Name of the array of images of one input size."""
    return f"images_{size}.npy"


def masks_file(size: int) -> str:
    """Name of the array of masks of one input size."""
    return f"masks_{size}.npy"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records that go to consecutive rows, from `start`, of the arrays in `folder`."""

    start: int
    records: Sequence[Record]
    folder: Path
    sizes: Sequence[int]
    color: Color


@dataclass(frozen=True, slots=True)
class Converted:
    """What is known of an image once decoded: width and height of the crop, digests before resizing."""

    index: int
    width: int = 0
    height: int = 0
    digest: str = ""
    pixel_digest: str = ""
    empty_mask: bool = False
    failure: str = ""


def convert_chunk(chunk: Chunk) -> list[Converted]:
    """Fill the rows of a chunk; an image that cannot be used yields its failure, and the rest go on."""
    images = {size: _open(chunk.folder / images_file(size)) for size in chunk.sizes}
    masks = {size: _open(chunk.folder / masks_file(size)) for size in chunk.sizes}
    thumbnails = _open(chunk.folder / THUMBNAILS_FILE)
    results = []
    for index, record in enumerate(chunk.records, start=chunk.start):
        try:
            image, mask = load(record, chunk.color)
            require_visible(record, image)
        except BusMlopsError as error:
            results.append(Converted(index, failure=str(error)))
            continue
        for size in chunk.sizes:
            images[size][index] = geometry.prepare(image, size)
            if mask is not None:
                masks[size][index] = geometry.prepare_mask(mask, size)
        thumbnails[index] = geometry.prepare(_gray(image), THUMBNAIL)
        results.append(_describe(index, image, mask))
    return results


def load(record: Record, color: Color) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The cropped image of a record and its cropped mask, several masks joined by logical OR.

    Raises:
        ImageError: Names the file, or the row whose crop leaves the image.
    """
    name, image = printable(record.image), decode_image(record.image, color)
    mask: NDArray[np.bool_] | None = None
    for path in record.masks:
        part = decode_mask(path, record.mask_colors)
        if part.shape != image.shape[:2]:
            raise ImageError(
                f"{printable(path)} has {part.shape[1]} x {part.shape[0]} pixels but its image {name} has "
                f"{image.shape[1]} x {image.shape[0]}. Restore both from the source."
            )
        mask = part if mask is None else mask | part
    if record.crop is None:
        return image, mask
    try:
        cropped = geometry.crop(image, *record.crop)
    except ValueError as error:
        raise ImageError(f"{record.origin}: {error} ({name}). Correct the row.") from None
    return cropped, None if mask is None else mask[_window(*record.crop)]


def require_visible(record: Record, image: NDArray[np.uint8]) -> None:
    """Refuse the cropped image of a record if it is almost of one value.

    Raises:
        ImageError: It is; names file and row.
    """
    name = printable(record.image)
    require_contrast(image, name if record.crop is None else f"{record.origin}: the crop of {name}")


def _window(top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
    return slice(top, top + height), slice(left, left + width)


def _describe(index: int, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> Converted:
    pixels = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    both = pixels.copy()
    if mask is not None:
        both.update(b"mask" + np.packbits(mask).tobytes())
    return Converted(
        index=index,
        width=image.shape[1],
        height=image.shape[0],
        digest=both.hexdigest(),
        pixel_digest=pixels.hexdigest(),
        empty_mask=mask is not None and not mask.any(),
    )


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def _open(path: Path) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r+")
    return array
