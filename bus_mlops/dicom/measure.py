"""The size of a lesion from its mask: longest diameter, and the extent perpendicular to it, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Size:
    """Of the largest connected part of a mask.

    Attributes:
        long_axis: Longest diameter between two points of the outline, mm.
        short_axis: Extent perpendicular to it, mm.
        cut: The part reaches the border of the picture: the lesion may be larger.
        parts: Connected parts of the mask, of which only the largest was measured.
    """

    long_axis: float
    short_axis: float
    cut: bool
    parts: int


def measure(mask: NDArray[np.uint8], spacing: tuple[float, float]) -> Size | None:
    """The size of what a mask marks; None where it marks nothing.

    Pixels count with their own extent: a mask of one pixel is as long as the pixel's diagonal.

    Args:
        mask: (H, W), other than 0 inside the lesion.
        spacing: Millimetres from row to row and from column to column.

    >>> square = np.pad(np.ones((3, 4), np.uint8), 2)
    >>> measure(square, (1.0, 1.0))
    Size(long_axis=5.0, short_axis=4.8, cut=False, parts=1)
    """
    parts = _parts(mask)
    if not parts:
        return None
    runs = max(parts, key=lambda part: sum(end - start for _, start, end in part))
    corners = [(row + down, column) for row, *ends in runs for down in (0, 1) for column in ends]
    hull = np.array(_hull(sorted(set(corners)))) * spacing
    apart = np.linalg.norm(hull[:, None] - hull[None], axis=-1)
    one, other = np.unravel_index(int(apart.argmax()), apart.shape)
    along = (hull[other] - hull[one]) / apart[one, other]
    across = float(np.ptp(hull @ np.array([-along[1], along[0]])))
    height, width = mask.shape
    rows = [row for row, _, _ in runs]
    cut = rows[0] == 0 or rows[-1] == height - 1 or any(s == 0 or e == width for _, s, e in runs)
    return Size(round(float(apart.max()), 6), round(across, 6), cut, len(parts))


Run = tuple[int, int, int]  # row, first column, column after the last


def _parts(mask: NDArray[np.uint8]) -> list[list[Run]]:
    """The connected parts of a mask (corners connect, too), as runs of its rows from the top."""
    parts: list[list[Run]] = []
    owner: dict[int, int] = {}  # of a part that was joined to another

    def root(part: int) -> int:
        while part in owner:
            part = owner[part]
        return part

    above: list[tuple[Run, int]] = []
    for row in np.flatnonzero(mask.any(axis=1)):
        edges = np.flatnonzero(np.diff(np.pad(mask[row] != 0, 1).astype(np.int8)))
        here: list[tuple[Run, int]] = []
        for start, end in edges.reshape(-1, 2).tolist():
            touched = {root(part) for (r, s, e), part in above if r == row - 1 and s <= end and e >= start}
            mine = min(touched, default=len(parts))
            if not touched:
                parts.append([])
            owner.update(dict.fromkeys(touched - {mine}, mine))
            run = (int(row), start, end)
            parts[mine].append(run)
            here.append((run, mine))
        above = here
    joined: dict[int, list[Run]] = {}
    for part, runs in enumerate(parts):
        joined.setdefault(root(part), []).extend(runs)
    return [sorted(runs) for runs in joined.values()]


def _hull(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The convex hull of sorted points (Andrew's monotone chain)."""

    def half(ordered: Any) -> list[tuple[int, int]]:
        chain: list[tuple[int, int]] = []
        for point in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return half(points) + half(reversed(points))


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
