"""How far the outline of a drawn lesion lies from the true one: HD95 and the normalised surface distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError

Array = npt.NDArray[Any]

# Up to which distance an outline counts as right, as a share of the image's side: 2 pixels of 256.
TOLERANCE = 2 / 256
# HD95 of a lesion of which nothing was drawn: the image's diagonal (in sides), farther than any outline.
NOTHING_DRAWN = float(np.sqrt(2))


def boundary_distances(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, tolerance: float = TOLERANCE
) -> tuple[Array, Array]:
    """HD95 and normalised surface distance of each image; (N, S, S) 0/1 masks give two (N,).

    The outline of a mask is its pixels that have a neighbour (above, below, left, right) outside it or outside the
    image. HD95 is the larger of two 95th percentiles: that of the distances from the true outline to the nearest
    pixel of the drawn one, and that of the reverse; as a share of the side S, so that networks of different input
    sizes compare. The normalised surface distance is the share of both outlines' pixels that lie within `tolerance` of
    the other: 2 pixels at S = 256, 1 at 128; below 128 only outlines that coincide count.

    Both are NaN where the truth is empty (no ground truth). Where nothing was drawn of a lesion, HD95 is the diagonal,
    1.414, and the normalised surface distance 0: leaving such images out would favour a network that draws nothing.

    Args:
        truth: The true masks.
        predicted: The drawn ones.
        tolerance: As a share of the side, 0 or more.

    Raises:
        EvaluationError: The shapes differ, or the tolerance is negative.

    Example:
        >>> truth, drawn = np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int)
        >>> truth[0, 1, 1] = drawn[0, 1, 2] = 1
        >>> [float(each[0]) for each in boundary_distances(truth, drawn)]
        [0.25, 0.0]
    """
    a, b = np.asarray(truth).astype(bool), np.asarray(predicted).astype(bool)
    if a.shape != b.shape or a.ndim != 3:
        raise EvaluationError(f"masks must both be (images, side, side) but are {a.shape} and {b.shape}.")
    if not tolerance >= 0:
        raise EvaluationError(f"the tolerance must be 0 or more (a share of the image's side) but is {tolerance}.")
    side = a.shape[-1]
    found = [_distances(x, y, side, tolerance) for x, y in zip(a, b, strict=True)]
    hd95, nsd = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return hd95, nsd


def _distances(truth: Array, predicted: Array, side: int, tolerance: float) -> tuple[float, float]:
    from scipy.ndimage import distance_transform_edt

    if not truth.any():
        return float("nan"), float("nan")
    if not predicted.any():
        return NOTHING_DRAWN, 0.0
    # Both outlines lie within the box of both masks: the rest of the image costs time only.
    rows, columns = (np.flatnonzero((truth | predicted).any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    outlines = [_outline(each[box]) for each in (truth, predicted)]
    to_other = [distance_transform_edt(~other)[own] for own, other in (outlines, outlines[::-1])]
    hd95 = max(float(np.percentile(each, 95)) for each in to_other) / side
    # A pixel's distance is exact; the limit must not lose one to the rounding of a product.
    return hd95, float(np.mean(np.concatenate(to_other) <= tolerance * side + 1e-9))


def _outline(mask: Array) -> Array:
    inner = np.pad(mask, 1)
    inside: Array = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inside
