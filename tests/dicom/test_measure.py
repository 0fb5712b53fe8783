"""Sizes of lesions: against shapes of known size, and against every pair of corners where pixels are not square."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bus_mlops.dicom.measure import measure


def ellipse(rows: float, columns: float, spacing: tuple[float, float], turned: float = 0.0) -> np.ndarray:
    """A mask of an ellipse of these half axes, mm, drawn in pixels of the spacing."""
    down, across = np.mgrid[:240, :240].astype(float) - 120
    y, x = down * spacing[0], across * spacing[1]
    a, b = y * np.cos(turned) + x * np.sin(turned), -y * np.sin(turned) + x * np.cos(turned)
    return ((a / rows) ** 2 + (b / columns) ** 2 <= 1).astype(np.uint8)


@pytest.mark.parametrize("spacing", [(0.1, 0.1), (0.2, 0.1), (0.07, 0.15)])
@pytest.mark.parametrize("turned", [0.0, 0.5, 1.2])
def test_an_ellipse_has_its_axes_whatever_its_pixels(spacing, turned):
    size = measure(ellipse(6.0, 4.0, spacing, turned), spacing)
    assert size is not None
    assert size.long_axis == pytest.approx(12, abs=2.5 * max(spacing))
    assert size.short_axis == pytest.approx(8, abs=2.5 * max(spacing))
    assert (size.cut, size.parts) == (False, 1)


@settings(max_examples=50, deadline=None)
@given(arrays(np.uint8, (6, 7), elements=st.integers(0, 1)), st.floats(0.01, 2), st.floats(0.01, 2))
def test_it_is_the_largest_distance_within_the_largest_part(mask, down, across):
    import scipy.ndimage

    labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
    size = measure(mask, (down, across))
    if not count:
        assert size is None
        return
    assert size is not None
    assert size.parts == count
    most = np.bincount(labels[labels > 0])
    longest = []
    for part in np.flatnonzero(most == most.max()):
        pixels = np.argwhere(labels == part)
        corners = np.concatenate([pixels + shift for shift in ((0, 0), (0, 1), (1, 0), (1, 1))])
        points = corners * (down, across)
        longest.append(np.linalg.norm(points[:, None] - points[None], axis=-1).max())
    assert any(size.long_axis == pytest.approx(each, abs=1e-5) for each in longest)
    assert 0 < size.short_axis <= size.long_axis + 1e-5


def test_what_reaches_the_border_may_be_larger():
    mask = np.zeros((20, 20), np.uint8)
    mask[5:9, 0:4] = 1
    size = measure(mask, (1, 1))
    assert size is not None
    assert size.cut
