"""The losses against TensorFlow's and Keras's own, plain numpy, and what the paper's equations should have said."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bus_mlops.config import CrossEntropy, Focal, Loss
from bus_mlops.training.losses import (
    LossParameters,
    classification_loss,
    dice_loss,
    focal_loss,
    loss_parameters,
    multitask_loss,
    weighted_cross_entropy,
)

batches = st.integers(0, 2**32 - 1).map(np.random.default_rng)
EXTREMES = [-1e4, -88.8, 0.0, 88.8, 1e4]


def value_and_gradient(loss, label: float, logit: float, *rest: float) -> tuple[float, float]:
    x = tf.Variable([logit], dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = loss(tf.constant([label]), x, *(tf.constant(number) for number in rest))
    return float(value), float(tape.gradient(value, x)[0])


@settings(max_examples=60, deadline=None)
@given(rng=batches, n=st.integers(1, 40), weight=st.floats(0.1, 20), spread=st.floats(0.1, 1e4))
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


def test_equation_9_as_printed_is_minus_equation_8():
    rng = np.random.default_rng(0)
    labels, logits, w = rng.integers(0, 2, 50).astype(np.float64), rng.normal(0, 2, 50), 3.0
    scale = 1 + labels * (w - 1)
    printed = -np.mean((1 - labels) * logits + scale * np.log(1 + np.exp(-logits)))
    assert float(weighted_cross_entropy(labels, logits, w)) == pytest.approx(-printed, rel=1e-12)


def test_weight_one_is_plain_cross_entropy():
    labels, logits = np.array([1, 0, 1], np.float32), np.array([2.0, -1.0, -3.0], np.float32)
    plain = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    np.testing.assert_allclose(float(weighted_cross_entropy(labels, logits, 1.0)), float(plain), rtol=1e-6)


@pytest.mark.parametrize("logit", EXTREMES)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_cross_entropy_has_a_finite_value_and_the_right_gradient_everywhere(logit, label):
    value, gradient = value_and_gradient(weighted_cross_entropy, label, logit, 3.0)
    p = float(tf.sigmoid(np.float64(logit)))
    assert np.isfinite(value)
    np.testing.assert_allclose(gradient, (1 - label) * p - 3 * label * (1 - p), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(rng=batches, n=st.integers(1, 40), gamma=st.floats(0, 5), alpha=st.floats(0.05, 0.95))
def test_focal_equals_kerass_own(rng, n, gamma, alpha):
    labels = rng.integers(0, 2, n).astype(np.float32)
    logits = rng.normal(0, 3, n).clip(-8, 8).astype(np.float32)  # beyond, Keras clips the probabilities
    keras_own = keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=alpha, gamma=gamma, from_logits=True
    )
    np.testing.assert_allclose(
        float(focal_loss(labels, logits, gamma, alpha)), float(keras_own(labels, logits)), rtol=2e-4, atol=1e-7
    )


@settings(max_examples=40, deadline=None)
@given(
    rng=batches, n=st.integers(1, 40), gamma=st.sampled_from([2.0, 3.0, 4.0]), alpha=st.sampled_from([0.25, 0.5, 0.8])
)
def test_focal_equals_equation_10_with_its_exponent(rng, n, gamma, alpha):
    labels = rng.integers(0, 2, n).astype(np.float64)
    logits = rng.normal(0, 3, n)
    p = 1 / (1 + np.exp(-logits))
    malignant = alpha * (1 - p) ** gamma * labels * np.log(p)
    mended = -np.mean(malignant + (1 - alpha) * p**gamma * (1 - labels) * np.log(1 - p))
    printed = -np.mean(malignant + (1 - alpha) * p * (1 - labels) * np.log(1 - p))
    ours = float(focal_loss(labels, logits, gamma, alpha))
    np.testing.assert_allclose(ours, mended, rtol=1e-9)
    assert (printed > mended) == (labels.min() == 0), "only benign images tell them apart"


@pytest.mark.parametrize("logit", [*EXTREMES, -5.0, 1.0, 20.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 4.0])
def test_focal_has_a_finite_value_and_the_right_gradient_everywhere(logit, label, gamma):
    value, gradient = value_and_gradient(focal_loss, label, logit, gamma, 0.8)
    sign, weight = (1, 0.8) if label else (-1, 0.2)
    z = np.float64(sign * logit)
    p, error = np.exp(-np.logaddexp(0, -z)), np.exp(-np.logaddexp(0, z))
    # d/dz of -w error^gamma log p, with dp/dz = p error and d(error)/dz = -p error.
    expected = sign * weight * error**gamma * (gamma * p * -np.logaddexp(0, -z) - error)
    assert np.isfinite(value)
    np.testing.assert_allclose(value, weight * error**gamma * np.logaddexp(0, -z), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-7)


def test_focal_at_gamma_0_is_balanced_cross_entropy():
    labels, logits = np.array([1, 0, 1], np.float32), np.array([2.0, -1.0, -3.0], np.float32)
    focal = float(focal_loss(labels, logits, 0.0, 0.8))
    assert focal == pytest.approx(0.2 * float(weighted_cross_entropy(labels, logits, 4.0)), rel=1e-6)


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


@pytest.mark.parametrize(
    ("loss", "unweighted", "parameters"),
    [
        (CrossEntropy(positive_weight=3, classification_weight=1.5, mask_weight=0.7), weighted_cross_entropy, (3.0,)),
        (Focal(gamma=2, alpha=0.8, classification_weight=1.5, mask_weight=0.7), focal_loss, (2.0, 0.8)),
    ],
)
def test_the_sum_is_weighted_part_by_part(loss: Loss, unweighted, parameters):
    labels, logits = np.array([1, 0], np.float32), np.array([0.3, -2], np.float32)
    chosen = loss_parameters(loss)
    alone = unweighted(labels, logits, *parameters)
    classification = classification_loss(labels, logits, chosen)
    assert float(classification) == pytest.approx(1.5 * float(alone), rel=1e-6)
    total = float(multitask_loss(classification, tf.constant(0.4), chosen))
    assert total == pytest.approx(1.5 * float(alone) + 0.7 * 0.4, rel=1e-6)


def test_changing_a_parameter_does_not_retrace():
    variables = LossParameters(*(tf.Variable(0.5) for _ in LossParameters._fields))

    @tf.function
    def value(labels, logits):
        return multitask_loss(classification_loss(labels, logits, variables), tf.constant(0.5), variables)

    batch, values = (tf.constant([1.0, 0.0]), tf.constant([0.3, 0.8])), []
    values.append(float(value(*batch)))
    for variable in variables:
        variable.assign(0.75)
        values.append(float(value(*batch)))
    assert value.experimental_get_tracing_count() == 1
    assert len(set(values)) == len(LossParameters._fields) + 1
