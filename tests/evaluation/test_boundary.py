"""Boundary distances against references computed otherwise, and what is to be said where a mask is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist, directed_hausdorff

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.boundary import NOTHING_DRAWN, TOLERANCE, boundary_distances

MASKS = arrays(bool, (9, 9), elements=st.booleans())


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) that an erosion by a cross takes away; outside the image is outside the mask."""
    return np.argwhere(mask & ~binary_erosion(mask, border_value=0))


def of_one(truth: np.ndarray, drawn: np.ndarray, tolerance: float = TOLERANCE) -> tuple[float, float]:
    hd95, nsd = boundary_distances(truth[None], drawn[None], tolerance)
    return float(hd95[0]), float(nsd[0])


@settings(max_examples=150, deadline=None)
@given(truth=MASKS, drawn=MASKS, pixels=st.integers(0, 4))
def test_distances_are_those_between_all_pairs_of_outline_pixels(truth, drawn, pixels):
    if not truth.any() or not drawn.any():
        return
    a, b = outline(truth), outline(drawn)
    pairs = cdist(a, b)
    nearest = pairs.min(axis=1), pairs.min(axis=0)
    hd95, nsd = of_one(truth, drawn, pixels / 9)
    assert hd95 * 9 == pytest.approx(max(np.percentile(each, 95) for each in nearest))
    assert hd95 * 9 <= max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]) + 1e-9
    assert nsd == pytest.approx(np.mean(np.concatenate(nearest) <= pixels + 1e-9))
    assert of_one(drawn, truth, pixels / 9) == (hd95, nsd)
    assert of_one(truth, truth) == (0.0, 1.0)


def test_a_shifted_square_by_hand():
    truth, drawn = np.zeros((2, 256, 256), np.uint8)
    truth[100:150, 100:150] = 1
    drawn[100:150, 103:153] = 1
    hd95, nsd = of_one(truth, drawn)
    assert hd95 == 3 / 256  # the vertical sides lie 3 pixels apart
    # Of its 196 pixels one vertical side (50) is 3 away, and of the other all (44) but those near the horizontal ones.
    assert nsd == pytest.approx(1 - 94 / 196)
    assert of_one(truth, drawn, 3 / 256)[1] == 1.0
    half, moved = (mask[::2, ::2] for mask in (truth, np.roll(truth, 2, axis=1)))
    assert of_one(half, moved) == (1 / 128, 1.0)  # the tolerance is 1 pixel of 128


@pytest.mark.parametrize(
    ("truth", "drawn", "expected"),
    [
        (np.eye(8)[3:4] * np.eye(8)[:, 3:4], np.zeros((8, 8)), (NOTHING_DRAWN, 0.0)),
        (np.ones((8, 8)), np.ones((8, 8)), (0.0, 1.0)),  # touches every border
        (np.pad([[1]], (0, 7)), np.pad([[1]], (7, 0)), (7 * np.sqrt(2) / 8, 0.0)),  # pixels in opposite corners
        (np.zeros((8, 8)), np.ones((8, 8)), (np.nan, np.nan)),
        (np.zeros((8, 8)), np.zeros((8, 8)), (np.nan, np.nan)),
    ],
    ids=["nothing drawn", "the whole image", "one pixel each", "no truth", "neither"],
)
def test_what_is_empty_or_touches_the_border(truth, drawn, expected):
    assert of_one(truth, drawn) == pytest.approx(expected, nan_ok=True)


def test_no_images_and_what_cannot_be_measured():
    assert [len(each) for each in boundary_distances(np.zeros((0, 4, 4)), np.zeros((0, 4, 4)))] == [0, 0]
    with pytest.raises(EvaluationError, match="but are"):
        boundary_distances(np.zeros((1, 2, 2)), np.zeros((1, 3, 3)))
    with pytest.raises(EvaluationError, match="0 or more"):
        boundary_distances(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), -1)
