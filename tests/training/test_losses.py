"""The losses against TensorFlow's op, plain numpy, and what the paper's equations should have said."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bus_mlops.training.losses import (
    LossWeights,
    dice_loss,
    multitask_loss,
    single_task_loss,
    weighted_cross_entropy,
)

batches = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def weights(positive: float = 1, classification: float = 1, mask: float = 1) -> LossWeights:
    return LossWeights(*(tf.constant(v, tf.float32) for v in (positive, classification, mask)))


@settings(max_examples=60, deadline=None)
@given(rng=batches, n=st.integers(1, 40), weight=st.floats(0.1, 20), spread=st.floats(0.1, 200))
def test_equals_tensorflows_op(rng, n, weight, spread):
    labels = rng.integers(0, 2, n).astype(np.float32)
    logits = rng.normal(0, spread, n).astype(np.float32)
    ours = weighted_cross_entropy(labels, logits, tf.constant(weight, tf.float32))
    reference = tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(labels, logits, weight))
    np.testing.assert_allclose(float(ours), float(reference), rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(rng=batches, n=st.integers(1, 40), weight=st.floats(0.1, 20))
def test_equals_equation_8(rng, n, weight):
    labels = rng.integers(0, 2, n).astype(np.float64)
    logits = rng.normal(0, 3, n)
    p = 1 / (1 + np.exp(-logits))
    printed = -np.mean(weight * labels * np.log(p) + (1 - labels) * np.log(1 - p))
    np.testing.assert_allclose(float(weighted_cross_entropy(labels, logits, weight)), printed, rtol=1e-9)


def test_weight_one_is_plain_cross_entropy():
    labels, logits = np.array([1, 0, 1], np.float32), np.array([2.0, -1.0, -3.0], np.float32)
    plain = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    np.testing.assert_allclose(float(weighted_cross_entropy(labels, logits, 1.0)), float(plain), rtol=1e-6)


@pytest.mark.parametrize("logit", [-1e4, -88.8, 0.0, 88.8, 1e4])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_finite_value_and_right_gradient_everywhere(logit, label):
    x = tf.Variable([logit], dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = weighted_cross_entropy(tf.constant([label]), x, tf.constant(3.0))
    gradient = float(tape.gradient(loss, x)[0])
    p = float(tf.sigmoid(np.float64(logit)))
    assert np.isfinite(float(loss))
    np.testing.assert_allclose(gradient, (1 - label) * p - 3 * label * (1 - p), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(rng=batches, n=st.integers(1, 5), side=st.integers(1, 9))
def test_dice_over_the_flattened_batch(rng, n, side):
    masks = rng.integers(0, 2, (n, side, side)).astype(np.float32)
    p = rng.uniform(size=(n, side, side)).astype(np.float32)
    has = rng.integers(0, 2, n).astype(np.float32)
    y, q = masks[has > 0].ravel(), p[has > 0].ravel()
    expected = 1 - (2 * (y * q).sum() + 1) / (y.sum() + q.sum() + 1)
    assert float(dice_loss(masks, p, has)) == pytest.approx(expected, abs=1e-5)


def test_dice_at_its_ends():
    masks = np.zeros((2, 8, 8), np.float32)
    masks[:, 2:5, 2:5] = 1
    every = np.ones(2, np.float32)
    assert float(dice_loss(masks, masks, every)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(masks, 1 - masks, every)) == pytest.approx(1 - 1 / 129, abs=1e-6)
    assert float(dice_loss(0 * masks, 0 * masks, every)) == pytest.approx(0, abs=1e-6)


def test_the_sum_is_weighted_part_by_part():
    rng = np.random.default_rng(0)
    labels, logits = np.array([1, 0], np.float32), np.array([0.3, -2], np.float32)
    masks = rng.integers(0, 2, (2, 4, 4)).astype(np.float32)
    p, has = rng.uniform(size=(2, 4, 4)).astype(np.float32), np.array([1, 1], np.float32)
    cross_entropy = float(weighted_cross_entropy(labels, logits, 3.0))
    dice = float(dice_loss(masks, p, has))
    total = float(multitask_loss(labels, logits, masks, p, has, weights(3, 1.5, 0.7)))
    assert total == pytest.approx(1.5 * cross_entropy + 0.7 * dice, rel=1e-6)
    single = float(single_task_loss(labels, logits, weights(3, 1.5, 0.7)))
    assert single == pytest.approx(1.5 * cross_entropy, rel=1e-6)
