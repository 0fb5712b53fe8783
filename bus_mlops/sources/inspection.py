"""One record's files decoded once: what is unreadable or does not fit, and a digest of the cropped pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bus_mlops.errors import ImageError
from bus_mlops.files import printable
from bus_mlops.images import geometry
from bus_mlops.images.contrast import require_contrast
from bus_mlops.images.decode import decode_image
from bus_mlops.images.masks import decode_mask
from bus_mlops.sources.record import Record

Pixels = TypeVar("Pixels", bound=NDArray[Any])


@dataclass
class Inspected:
    """What was found in the files of one record; files are relative to the source.

    Attributes:
        messages: Errors.
        marked: A mask marks a lesion.
        pixels: A sha256 over shape and RGB values of the cropped image, empty where it cannot be read.
    """

    name: str
    messages: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    size_mismatches: list[str] = field(default_factory=list)
    crop_outside: bool = False
    empty_mask: bool = False
    marked: bool = False
    pixels: str = ""


def inspect_record(record: Record, root: Path) -> Inspected:
    """Decode the image and every mask of a record below `root`; nothing is raised, all is noted."""
    found, folder = Inspected(record.name), root / record.source
    image = _decoded(found, record.image, folder, partial(decode_image, color="rgb"))
    decode = partial(decode_mask, colors=record.mask_colors)
    masks = [_decoded(found, path, folder, decode) for path in record.masks]
    if masks and all(mask is not None and not mask.any() for mask in masks):
        found.empty_mask = True
    found.marked = any(mask is not None and bool(mask.any()) for mask in masks)
    if image is None:
        return found
    for path, mask in zip(record.masks, masks, strict=True):
        if mask is not None and mask.shape != image.shape[:2]:
            found.size_mismatches.append(path.relative_to(folder).as_posix())
            found.messages.append(
                f"{path} has {mask.shape[1]} x {mask.shape[0]} pixels but its image {record.image} has "
                f"{image.shape[1]} x {image.shape[0]}. Restore both from the source."
            )
    try:
        cropped = image if record.crop is None else geometry.crop(image, *record.crop)
    except ValueError as error:
        found.crop_outside = True
        found.messages.append(f"{record.origin}: {error} ({record.image}). Correct the row.")
        return found
    try:
        require_contrast(cropped, printable(record.image) if record.crop is None else f"the crop of {record.origin}")
    except ImageError as error:
        found.messages.append(str(error))
    pixels = repr(cropped.shape).encode() + np.ascontiguousarray(cropped).tobytes()
    found.pixels = hashlib.sha256(pixels).hexdigest()
    return found


def _decoded(found: Inspected, path: Path, folder: Path, decode: Callable[[Path], Pixels]) -> Pixels | None:
    try:
        return decode(path)
    except ImageError as error:
        found.unreadable.append(path.relative_to(folder).as_posix())
        found.messages.append(str(error))
        return None
