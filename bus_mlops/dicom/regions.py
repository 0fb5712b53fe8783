"""Where in an ultrasound image the picture is, and how large a pixel is: Sequence of Ultrasound Regions (0018,6011).

Outside of them scanners burn in texts (names, settings, scales), which no model shall see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bus_mlops.errors import DicomError
from bus_mlops.images.model_input import SIDES

if TYPE_CHECKING:
    from pydicom import Dataset

_TWO_DIMENSIONAL = 1
_CENTIMETRE = 3
# Millimetres a pixel of which a length is believed: 0.01 mm is finer than any probe resolves, 2 mm coarser.
_CREDIBLE = (0.001, 5.0)
# Of two regions of which so much of the smaller lies in the other, one is drawn over the other: colour on gray.
_WITHIN = 0.8


@dataclass(frozen=True)
class Region:
    """A rectangle of an image that holds a B-mode picture, in pixels.

    Attributes:
        top: First row, from 0.
        left: First column, from 0.
        height: In rows.
        width: In columns.
        spacing: Millimetres from row to row and from column to column; None where the scanner did not say.
        declared: Whether the scanner said where the picture is; else it is all of the image.
    """

    top: int
    left: int
    height: int
    width: int
    spacing: tuple[float, float] | None = None
    declared: bool = True

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for an array of the image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def regions_of(dataset: Dataset) -> tuple[Region, ...]:
    """The pictures in an ultrasound image, the largest first; all of the image where no regions are declared.

    Raises:
        DicomError: Regions are declared and none holds a two-dimensional picture (spectra, M-mode, graphics only), or
            lies in the image.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    declared = list(dataset.get("SequenceOfUltrasoundRegions") or [])
    if not declared:
        return (Region(0, 0, rows, columns, declared=False),)
    flat = [item for item in declared if _integer(item, "RegionSpatialFormat") == _TWO_DIMENSIONAL]
    found = sorted(filter(None, (_region(item, rows, columns) for item in flat)), key=_area, reverse=True)
    kept: list[Region] = []
    for region in found:
        if not any(_overlap(region, other) > _WITHIN * _area(region) for other in kept):
            kept.append(region)
    if not kept:
        raise DicomError(
            f"none of its {len(declared)} ultrasound regions is a B-mode picture within the image: spectra, M-mode and "
            "graphics are not answered."
        )
    return tuple(kept)


def _region(item: Dataset, rows: int, columns: int) -> Region | None:
    """What lies in the image of a region, whose last row and column count; None where too little does."""
    names = ("RegionLocationMinY0", "RegionLocationMinX0", "RegionLocationMaxY1", "RegionLocationMaxX1")
    corners = [_integer(item, name) for name in names]
    if any(value is None for value in corners):
        return None
    top, left, bottom, right = (int(value or 0) for value in corners)
    top, left = max(top, 0), max(left, 0)
    height, width = min(bottom + 1, rows) - top, min(right + 1, columns) - left
    if min(height, width) < SIDES[0]:
        return None
    return Region(top, left, height, width, _spacing(item))


def _spacing(item: Dataset) -> tuple[float, float] | None:
    """Millimetres a row and a column; deltas are centimetres, and negative where an axis runs upward or to the left."""
    if any(_integer(item, f"PhysicalUnits{axis}Direction") != _CENTIMETRE for axis in "XY"):
        return None
    try:
        down, across = (abs(float(item.get(f"PhysicalDelta{axis}"))) * 10 for axis in "YX")
    except (TypeError, ValueError):
        return None
    least, most = _CREDIBLE
    return (down, across) if all(math.isfinite(s) and least <= s <= most for s in (down, across)) else None


def _integer(item: Dataset, keyword: str) -> int | None:
    value: Any = item.get(keyword)
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _area(region: Region) -> int:
    return region.height * region.width


def _overlap(one: Region, other: Region) -> int:
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    return max(height, 0) * max(width, 0)
