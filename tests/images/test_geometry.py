"""Geometry: right for every width and height, masks aligned with images."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bus_mlops.images.geometry import crop, pad_to_square, prepare, prepare_mask

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_padding_is_centred_and_keeps_every_pixel(height, width, color):
    shape = (height, width, 3) if color else (height, width)
    image = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    square = pad_to_square(image)
    side = max(height, width)
    assert square.shape[:2] == (side, side)
    top, left = (side - height) // 2, (side - width) // 2
    assert np.array_equal(square[top : top + height, left : left + width], image)
    assert int(square.astype(int).sum()) == int(image.astype(int).sum())


@pytest.mark.parametrize(("height", "width"), [(41, 40), (40, 41), (2, 1), (1, 2)])
def test_a_difference_of_one_pixel_is_padded_and_not_blackened(height, width):
    image = np.full((height, width), 200, np.uint8)
    assert pad_to_square(image).shape == (max(height, width),) * 2
    assert prepare(image, 20).mean() > 90


@given(SIDES, SIDES, st.integers(1, 120))
@settings(max_examples=100, deadline=None)
def test_prepared_shapes_and_masks_stay_binary(height, width, size):
    image = np.full((height, width, 3), 255, np.uint8)
    assert prepare(image, size).shape == (size, size, 3)
    assert prepare(image[..., 0], size).shape == (size, size)
    mask = prepare_mask(np.ones((height, width), bool), size)
    assert mask.shape == (size, size)
    assert set(np.unique(mask)) <= {0, 1}


@given(st.integers(20, 200), st.integers(20, 200), st.integers(24, 96), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_masks_stay_aligned_with_images_under_crop_pad_and_resize(height, width, size, cut, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width
    disc = np.hypot(y - cy, x - cx) < 0.28 * min(height, width)
    if cut:
        top, left = int(rng.integers(height // 3)), int(rng.integers(width // 3))
        box = (
            top,
            left,
            int(rng.integers(height // 2, height - top + 1)),
            int(rng.integers(width // 2, width - left + 1)),
        )
    else:
        box = (0, 0, height, width)
    seen = prepare(crop(disc.astype(np.uint8) * 255, *box), size).astype(float)
    mask = prepare_mask(crop(disc.astype(np.uint8), *box), size).astype(float)
    assume(mask.sum() > 20)
    # Nearest neighbour may leave out or double a row and a column, each as long as the disc's diameter.
    diameter = 2 * np.sqrt(mask.sum() / np.pi)
    assert seen.sum() / 255 == pytest.approx(mask.sum(), abs=2 * diameter)
    grid = np.arange(size)
    for axis in (0, 1):
        centre_seen = (seen.sum(axis=1 - axis) * grid).sum() / seen.sum()
        centre_mask = (mask.sum(axis=1 - axis) * grid).sum() / mask.sum()
        assert centre_seen == pytest.approx(centre_mask, abs=0.6)


def test_shrinking_averages_over_the_area_like_opencv_within_a_few_gray_levels():
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 256, (200, 200), dtype=np.uint8), (0, 0), 4)
    area = cv2.resize(image, (50, 50), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(prepare(image, 50).astype(float) - area).max() < 6
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(prepare(stripes, 16)[:, 1:-1].astype(int) - 127).max() <= 2  # no aliasing


def test_the_right_size_is_left_untouched():
    image = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    assert np.array_equal(prepare(image, 32), image)


@pytest.mark.parametrize("box", [(0, 0, 6, 4), (0, 0, 5, 5), (-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 2), (5, 0, 1, 1)])
def test_a_crop_outside_the_image_is_refused(box):
    with pytest.raises(ValueError, match="leaves the image of 5 rows and 4 columns"):
        crop(np.zeros((5, 4), np.uint8), *box)


def test_crop_takes_rows_and_columns():
    image = np.arange(20, dtype=np.uint8).reshape(5, 4)
    assert crop(image, 1, 2, 3, 2).tolist() == [[6, 7], [10, 11], [14, 15]]


def test_a_mask_takes_the_nearest_pixel_and_no_mean_of_several():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True  # the middle of the middle one of nine squares
    assert prepare_mask(mask, 3).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert prepare_mask(~mask, 3).tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
