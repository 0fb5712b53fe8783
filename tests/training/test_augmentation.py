"""Geometry of the augmentation: what each change does, alone and together, and that image and mask move together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.legacy.preprocessing.image import apply_affine_transform

from bus_mlops.training.augmentation import Draw, Strengths, augment, draw, transforms, warp, warp_masks

NONE = Strengths(*[0.0] * 6)
PAPER = Strengths(horizontal_flip=1.0, height_shift=0.2, width_shift=0.2, zoom=0.0, shear=0.0, rotation=20.0)
ALL = PAPER._replace(zoom=0.2, shear=20.0)


def strengths(values: Strengths) -> Strengths:
    return Strengths(*(tf.constant(value, tf.float32) for value in values))


def moved(image: np.ndarray, how=warp, **changes: float) -> np.ndarray:
    """One image (S, S) after one exact change; angles in degrees."""
    values = {"flip": 1.0, "down": 0.0, "right": 0.0, "tall": 1.0, "wide": 1.0, "shear": 0.0, "angle": 0.0, **changes}
    for name in ("shear", "angle"):
        values[name] = math.radians(values[name])
    drawn = Draw(**{name: tf.constant([value], tf.float32) for name, value in values.items()})
    matrices = transforms(drawn, image.shape[0])
    batch = tf.constant(image[np.newaxis].astype(np.float32))
    return how(batch[..., tf.newaxis], matrices).numpy()[0, ..., 0] if how is warp else how(batch, matrices).numpy()[0]


def picture(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (side, side)).astype(np.float32)


def smooth(side: int) -> np.ndarray:
    """Waves, so that places a little apart have values a little apart."""
    y, x = np.mgrid[:side, :side] / side
    return (127 + 60 * np.sin(7 * x + 3 * y) + 60 * np.cos(9 * y - 2 * x)).astype(np.float32)


def blob(side: int, seed: int = 0) -> np.ndarray:
    """An ellipse off the centre, 0/1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    cx, cy = rng.uniform(0.35, 0.65, 2)
    return ((((x - cx) / 0.22) ** 2 + ((y - cy) / 0.12) ** 2) < 1).astype(np.uint8)


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("how", [warp, warp_masks])
def test_exact_changes(side, how):
    image = picture(side)
    # 0.05: places are float32, times a contrast of 255.
    np.testing.assert_allclose(moved(image, how), image, atol=0.05)
    np.testing.assert_allclose(moved(image, how, flip=-1.0), image[:, ::-1], atol=0.05)
    np.testing.assert_allclose(moved(image, how, angle=180), image[::-1, ::-1], atol=0.05)
    # Counter-clockwise as seen, like numpy's rot90; flipped first, then turned.
    np.testing.assert_allclose(moved(image, how, angle=90), np.rot90(image), atol=0.05)
    np.testing.assert_allclose(moved(image, how, flip=-1.0, angle=90), np.rot90(image[:, ::-1]), atol=0.05)


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


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"wide": 0.8}, {"zx": 0.8}),
        ({"tall": 1.2, "wide": 0.9}, {"zy": 1.2, "zx": 0.9}),
        ({"shear": 20}, {"shear": 20}),
        ({"shear": -35}, {"shear": -35}),
        ({"angle": 15, "shear": 12, "tall": 0.85, "wide": 1.1}, {"theta": 15, "shear": 12, "zy": 0.85, "zx": 1.1}),
    ],
)
@pytest.mark.parametrize("side", [32, 33])
def test_zoom_shear_and_rotation_are_those_of_keras(ours, theirs, side):
    image = smooth(side)
    expected = apply_affine_transform(
        image[..., np.newaxis], **theirs, row_axis=0, col_axis=1, channel_axis=2, fill_mode="nearest", order=1
    )
    assert np.abs(expected[..., 0] - image).max() > 10
    np.testing.assert_allclose(moved(image, **ours), expected[..., 0], atol=0.02)


def test_no_strength_changes_nothing():
    images, masks = picture(32)[None, ..., None], blob(32)[None]
    for seed in range(3):
        same, same_mask = augment(images, masks, strengths(NONE), tf.constant(seed), tf.constant(5))
        np.testing.assert_array_equal(same, images)
        np.testing.assert_array_equal(same_mask, masks.astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    step=st.integers(0, 10_000),
    side=st.sampled_from([32, 48]),
    chosen=st.sampled_from([PAPER, ALL, NONE._replace(zoom=0.3), NONE._replace(shear=30.0)]),
)
def test_mask_stays_binary_and_moves_with_its_image(seed, step, side, chosen):
    masks = np.stack([blob(side, i) for i in range(4)])
    images = masks[..., None] * np.uint8(255)
    changed, changed_masks = augment(images, masks, strengths(chosen), tf.constant(seed), tf.constant(step))
    assert changed_masks is not None
    assert changed.dtype == changed_masks.dtype == tf.float32
    assert set(np.unique(changed_masks)) <= {0.0, 1.0}
    # Bilinear and nearest may differ on the outline only.
    disagree = (changed.numpy()[..., 0] > 127.5) != (changed_masks.numpy() > 0)
    outline = 4 * math.sqrt(masks.sum(axis=(1, 2)).max() * math.pi)
    assert disagree.sum(axis=(1, 2)).max() <= outline / 2
    assert changed_masks.numpy().sum() > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_draws_stay_within_the_strengths_and_fill_them(seed):
    drawn = draw(strengths(ALL), tf.constant(2000), tf.constant(seed), tf.constant(0))
    assert set(np.unique(drawn.flip)) == {-1.0, 1.0}
    assert 0.42 < np.mean(drawn.flip.numpy() < 0) < 0.58
    for values, limit in (
        (drawn.down, 0.2),
        (drawn.right, 0.2),
        (drawn.tall - 1, 0.2),
        (drawn.wide - 1, 0.2),
        (drawn.shear, math.radians(20)),
        (drawn.angle, math.radians(20)),
    ):
        assert np.abs(values).max() <= limit * (1 + 1e-6)
        assert np.min(values) < -0.9 * limit
        assert np.max(values) > 0.9 * limit
    columns = np.stack([np.asarray(column) for column in drawn])
    independent = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(independent).max() < 0.13


def test_the_papers_four_are_drawn_alike_with_and_without_the_other_two():
    with_all = draw(strengths(ALL), tf.constant(20), tf.constant(3), tf.constant(4))
    four = draw(strengths(PAPER), tf.constant(20), tf.constant(3), tf.constant(4))
    for name in ("flip", "down", "right", "angle"):
        np.testing.assert_array_equal(getattr(four, name), getattr(with_all, name))
    # What TensorFlow draws for this seed: a change here is a change of every trained number.
    expected = tf.random.stateless_uniform((20, 4), (3, 4), -1.0, 1.0)
    np.testing.assert_array_equal(four.down, expected[:, 1] * 0.2)


@pytest.mark.parametrize("only", Strengths._fields)
def test_each_strength_acts_alone(only):
    alone = strengths(NONE._replace(**{only: getattr(ALL, only)}))
    drawn = draw(alone, tf.constant(50), tf.constant(1), tf.constant(0))
    still = Draw(flip=1, down=0, right=0, tall=1, wide=1, shear=0, angle=0)
    changed = {name for name, values in drawn._asdict().items() if np.abs(values - getattr(still, name)).max() > 0}
    parts = {"horizontal_flip": {"flip"}, "height_shift": {"down"}, "width_shift": {"right"}, "rotation": {"angle"}}
    assert changed == {**parts, "zoom": {"tall", "wide"}, "shear": {"shear"}}[only]
    images = np.stack([picture(24, i) for i in range(4)])[..., None]
    after, _ = augment(images, None, alone, tf.constant(1), tf.constant(0))
    assert np.abs(after - images).max() > 1


def test_a_draw_depends_on_seed_and_step_only():
    images = np.stack([picture(24, i) for i in range(3)])[..., None]

    def once(seed: int, step: int) -> np.ndarray:
        return augment(images, None, strengths(ALL), tf.constant(seed), tf.constant(step))[0].numpy()

    first = once(7, 3)
    others = [once(7, 4), once(8, 3)]
    np.testing.assert_array_equal(once(7, 3), first)
    assert all(np.abs(other - first).max() > 1 for other in others)
    # Without a mask the image is changed as with one, and three equal channels as one.
    with_mask = augment(images, images[..., 0], strengths(ALL), tf.constant(7), tf.constant(3))[0]
    np.testing.assert_allclose(with_mask, first, atol=1e-3)
    colour = augment(np.repeat(images, 3, -1), None, strengths(ALL), tf.constant(7), tf.constant(3))[0]
    np.testing.assert_allclose(colour, np.repeat(first, 3, -1), atol=1e-3)


def test_changing_a_strength_does_not_retrace():
    variables = Strengths(*(tf.Variable(0.0) for _ in Strengths._fields))
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, None)), tf.TensorSpec((), tf.int32)])
    def step(images, number):
        traces.append(number)
        return augment(images, None, variables, tf.constant(1), number)[0]

    images = picture(16)[None, ..., None]
    np.testing.assert_array_equal(step(images, tf.constant(0)), images)
    for variable in (variables.rotation, variables.zoom):
        variable.assign(0.5)
        assert np.abs(step(images, tf.constant(0)) - images).max() > 1
    assert step(np.repeat(images, 5, axis=0), tf.constant(0)).shape == (5, 16, 16, 1)
    assert len(traces) == 1
