"""Nearest neighbours by cosine similarity whose cost grows as N^1.5, not N^2; exact for small collections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

# Up to here every image is compared with every other: that takes seconds, and misses nothing.
EXACT = 8192
_PROBED = 24
_ROWS = 8192
# Similarities held at once, so that memory stays bounded.
_AT_ONCE = 4_000_000


class Neighbours:
    """An index over the rows of a matrix of unit vectors (N, features), for queries about the same rows.

    Above `EXACT` rows these are divided into about sqrt(N) / 2 cells around rows spread evenly over the matrix (an
    inverted file), and a query looks into the 24 cells whose centres are most like it: the more alike two rows
    are, the more surely one is found from the other, so what is missed is dissimilar.
    """

    def __init__(self, base: Floats) -> None:
        total = len(base)
        cells = 1 if total <= EXACT else int(np.sqrt(total) / 2)
        self._centres = base[np.linspace(0, total - 1, cells).astype(np.int64)]
        own = np.concatenate([_nearest(base[s : s + _ROWS] @ self._centres.T, 1) for s in range(0, total, _ROWS)])
        # rows of one cell lie together, so that a cell is a slice
        self._order = np.argsort(own[:, 0], kind="stable")
        self._sorted = base[self._order]
        self._bounds = np.searchsorted(own[self._order, 0], np.arange(cells + 1))

    def query(self, vectors: Floats, count: int) -> Integers:
        """The most similar rows of each vector.

        Args:
            vectors: Row i shows image i of the index, perhaps in another view; it is never its own neighbour.
            count: How many neighbours each gets.

        Returns:
            (P, 2) pairs (row, neighbour).
        """
        starts = range(0, len(vectors), _ROWS)
        return np.concatenate([self._block(vectors[start : start + _ROWS], start, count) for start in starts])

    def _block(self, vectors: Floats, start: int, count: int) -> Integers:
        probed = _nearest(vectors @ self._centres.T, _PROBED)
        rows, others, likeness = [], [], []
        in_order = np.argsort(probed, axis=None, kind="stable")
        cells, begin = np.unique(probed.ravel()[in_order], return_index=True)
        for cell, asked in zip(cells, np.split(in_order // probed.shape[1], begin[1:]), strict=True):
            asking = np.sort(asked)
            members = slice(self._bounds[cell], self._bounds[cell + 1])
            pool, theirs = self._order[members], self._sorted[members].T
            step = max(1, _AT_ONCE // max(1, len(pool)))
            # a centre whose twin is a centre too has no members
            for first in range(0, len(asking) if len(pool) else 0, step):
                some = asking[first : first + step]
                best, alike = _most_alike(vectors[some] @ theirs, some + start, pool, count)
                rows.append(np.repeat(some, best.shape[1]))
                others.append(pool[best].ravel())
                likeness.append(alike.ravel())
        row, other, value = np.concatenate(rows), np.concatenate(others), np.concatenate(likeness)
        order = np.lexsort((other, -value, row))
        order = order[np.isfinite(value[order])]
        place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
        chosen = order[place < count]
        return np.stack([row[chosen] + start, other[chosen]], axis=1)


def _most_alike(likeness: Floats, rows: Integers, pool: Integers, count: int) -> tuple[Integers, Floats]:
    """Places in the pool of each row's best, and how alike they are: -inf for the row itself."""
    itself = np.minimum(np.searchsorted(pool, rows), len(pool) - 1)
    own = np.flatnonzero(pool[itself] == rows)
    likeness[own, itself[own]] = -np.inf
    best = _nearest(likeness, count)
    return best, np.take_along_axis(likeness, best, axis=1)


def _nearest(likeness: Floats, count: int) -> Integers:
    """Columns of the greatest values of each row, in no order."""
    count = min(count, likeness.shape[1])
    return np.argpartition(-likeness, count - 1, axis=1)[:, :count]
