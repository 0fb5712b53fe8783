"""Geometry of the augmentation: what flips, shifts and turns do, and that image and mask move together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bus_mlops.training.augmentation import Draw, Strengths, augment, draw, transforms, warp

PAPER = (1.0, 0.2, 0.2, 20.0)
NONE = (0.0, 0.0, 0.0, 0.0)


def strengths(values: tuple[float, ...]) -> Strengths:
    return Strengths(*(tf.constant(value, tf.float32) for value in values))


def moved(image: np.ndarray, flip=1.0, down=0.0, right=0.0, angle=0.0, how="BILINEAR") -> np.ndarray:
    """One image (S, S) after one exact change; the angle in degrees."""
    drawn = Draw(*(tf.constant([v], tf.float32) for v in (flip, down, right, math.radians(angle))))
    batch = image[np.newaxis, ..., np.newaxis].astype(np.float32)
    return warp(batch, transforms(drawn, tf.constant(image.shape[0])), how).numpy()[0, ..., 0]


def picture(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (side, side)).astype(np.float32)


def blob(side: int, seed: int = 0) -> np.ndarray:
    """An ellipse off the centre, 0/1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    cx, cy = rng.uniform(0.35, 0.65, 2)
    return ((((x - cx) / 0.22) ** 2 + ((y - cy) / 0.12) ** 2) < 1).astype(np.uint8)


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("how", ["BILINEAR", "NEAREST"])
def test_exact_changes(side, how):
    image = picture(side)
    # 0.05: places are float32, times a contrast of 255.
    np.testing.assert_allclose(moved(image, how=how), image, atol=0.05)
    np.testing.assert_allclose(moved(image, flip=-1.0, how=how), image[:, ::-1], atol=0.05)
    np.testing.assert_allclose(moved(image, angle=180, how=how), image[::-1, ::-1], atol=0.05)
    # Counter-clockwise as seen, like numpy's rot90; flipped first, then turned.
    np.testing.assert_allclose(moved(image, angle=90, how=how), np.rot90(image), atol=0.05)
    np.testing.assert_allclose(moved(image, -1.0, angle=90, how=how), np.rot90(image[:, ::-1]), atol=0.05)


def test_shifts_are_fractions_of_the_side_and_repeat_the_edge():
    image = picture(16)
    down = moved(image, down=0.25)
    np.testing.assert_allclose(down[4:], image[:-4], atol=0.05)
    np.testing.assert_allclose(down[:4], np.broadcast_to(image[0], (4, 16)), atol=0.05)
    right = moved(image, right=-0.125)
    np.testing.assert_allclose(right[:, :-2], image[:, 2:], atol=0.05)
    np.testing.assert_allclose(right[:, -2:], np.broadcast_to(image[:, -1:], (16, 2)), atol=0.05)


def test_the_angle_is_in_degrees():
    image = np.zeros((65, 65), np.float32)
    image[32, 32:62] = 255  # a ray from the centre to the right
    turned = moved(image, angle=20)
    y, x = np.nonzero(turned > 100)
    far = np.hypot(x - 32, y - 32) > 10
    angles = np.degrees(np.arctan2(32 - y[far], x[far] - 32))
    assert np.abs(angles - 20).max() < 4
    assert abs(angles.mean() - 20) < 0.5


def test_no_strength_changes_nothing():
    images, masks = picture(32)[None, ..., None], blob(32)[None].astype(np.float32)
    for seed in range(3):
        same, same_mask = augment(images, masks, strengths(NONE), tf.constant(seed), tf.constant(5))
        np.testing.assert_array_equal(same, images)
        np.testing.assert_array_equal(same_mask, masks)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), step=st.integers(0, 10_000), side=st.sampled_from([32, 48, 64]))
def test_mask_stays_binary_and_moves_with_its_image(seed, step, side):
    masks = np.stack([blob(side, i) for i in range(4)]).astype(np.float32)
    images = masks[..., None] * 255
    changed, changed_masks = augment(images, masks, strengths(PAPER), tf.constant(seed), tf.constant(step))
    assert changed_masks is not None
    assert set(np.unique(changed_masks)) <= {0.0, 1.0}
    # Bilinear and nearest may differ on the outline only.
    disagree = (changed.numpy()[..., 0] > 127.5) != (changed_masks.numpy() > 0)
    outline = 4 * math.sqrt(masks.sum(axis=(1, 2)).max() * math.pi)
    assert disagree.sum(axis=(1, 2)).max() <= outline / 2
    assert changed_masks.numpy().sum() > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_draws_stay_within_the_strengths_and_fill_them(seed):
    drawn = draw(strengths(PAPER), tf.constant(2000), tf.constant(seed), tf.constant(0))
    assert set(np.unique(drawn.flip)) == {-1.0, 1.0}
    assert 0.42 < np.mean(drawn.flip.numpy() < 0) < 0.58
    for values, limit in ((drawn.down, 0.2), (drawn.right, 0.2), (drawn.angle, math.radians(20))):
        assert np.abs(values).max() <= limit
        assert np.min(values) < -0.9 * limit
        assert np.max(values) > 0.9 * limit


@pytest.mark.parametrize("only", range(4))
def test_each_strength_acts_alone(only):
    values = [PAPER[i] if i == only else 0.0 for i in range(4)]
    drawn = draw(strengths(tuple(values)), tf.constant(50), tf.constant(1), tf.constant(0))
    rest = [np.asarray(drawn.flip) - 1, drawn.down, drawn.right, drawn.angle]
    for i, changes in enumerate(rest):
        assert (np.abs(changes).max() > 0) == (i == only)


def test_a_draw_depends_on_seed_and_step_only():
    images = np.stack([picture(24, i) for i in range(3)])[..., None]

    def once(seed: int, step: int) -> np.ndarray:
        return augment(images, None, strengths(PAPER), tf.constant(seed), tf.constant(step))[0].numpy()

    first = once(7, 3)
    others = [once(7, 4), once(8, 3)]
    np.testing.assert_array_equal(once(7, 3), first)
    assert all(np.abs(other - first).max() > 1 for other in others)
    # Without a mask the image is changed as with one.
    with_mask = augment(images, images[..., 0], strengths(PAPER), tf.constant(7), tf.constant(3))[0]
    np.testing.assert_array_equal(with_mask, first)


def test_changing_a_strength_does_not_retrace():
    variables = Strengths(*(tf.Variable(0.0) for _ in range(4)))
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 1)), tf.TensorSpec((), tf.int32)])
    def step(images, number):
        traces.append(number)
        return augment(images, None, variables, tf.constant(1), number)[0]

    images = picture(16)[None, ..., None]
    np.testing.assert_array_equal(step(images, tf.constant(0)), images)
    variables.rotation.assign(20.0)
    assert np.abs(step(images, tf.constant(0)) - images).max() > 1
    assert len(traces) == 1
