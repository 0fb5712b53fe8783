"""Corruptions: nothing at strength 0, further away at every greater strength, pixels of 0-255 throughout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from bus_mlops.probes.corruptions import CORRUPTIONS, corrupt

SIDE = 64


def scan(seed: int = 0) -> np.ndarray:
    """Speckle with a dark disc, as ultrasound has it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = np.where(np.hypot(y - 30, x - 34) < 12, 0.3, 1.0)
    return np.clip(gaussian_filter(rng.rayleigh(70, (SIDE, SIDE)), 0.7) * disc, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_strength_0_is_the_image_and_more_is_further_from_it(kind):
    for seed in range(4):
        image = scan(seed)
        steps = [corrupt(image, kind, strength, f"busi/{seed}") for strength in (0, 0.25, 0.5, 0.75, 1)]
        np.testing.assert_array_equal(steps[0], image)
        distances = [np.abs(step.astype(float) - image).mean() for step in steps]
        assert distances == sorted(distances)
        assert distances[1] > 0


@pytest.mark.parametrize("kind", CORRUPTIONS)
@given(strength=st.floats(0, 1), level=st.integers(0, 255), seed=st.integers(0, 5))
def test_pixels_stay_pixels_and_follow_from_the_id(kind, strength, level, seed):
    for image in (np.full((20, 20), level, np.uint8), np.stack([scan(seed)[:20, :20]] * 3, axis=-1)):
        before = image.copy()
        once, again = (corrupt(image, kind, strength, f"busi/{seed}") for _ in range(2))
        assert once.dtype == np.uint8
        assert once.shape == image.shape
        np.testing.assert_array_equal(once, again)
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", ["gain", "speckle", "crop", "marks"])
def test_what_is_drawn_at_random_differs_between_images(kind):
    image = np.stack([scan(3)] * 3, axis=-1)
    drawn = {corrupt(image, kind, 1, f"busi/{number}").tobytes() for number in range(8)}
    assert len(drawn) > 1


def test_colours_of_a_gray_scan_stay_gray():
    image = np.stack([scan()] * 3, axis=-1)
    for kind in CORRUPTIONS:
        changed = corrupt(image, kind, 1, "busi/1").astype(int)
        assert np.ptp(changed, axis=-1).max() <= (4 if kind == "jpeg" else 0), kind


def test_a_strength_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1 but got 1\.5"):
        corrupt(scan(), "blur", 1.5, "busi/1")
    assert all(corruption.describe(1) for corruption in CORRUPTIONS.values())
