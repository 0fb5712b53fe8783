"""The losses of the paper on logits and probabilities; changing a weight costs nothing, they are tensors.

Two errors of the paper are mended here: Eq 9 as printed has the wrong sign (it equals minus Eq 8 and is
unbounded below) and is not the overflow-safe form that the text announces. Cross-entropy is the case of
weight 1 (Eq 7).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class LossWeights(NamedTuple):
    """Scalars (tensors or variables): the weight of malignant cases and those of the two parts of the sum."""

    positive: tf.Tensor
    classification: tf.Tensor
    mask: tf.Tensor


def weighted_cross_entropy(labels: tf.Tensor, logits: tf.Tensor, positive_weight: tf.Tensor) -> tf.Tensor:
    """Mean weighted cross-entropy (Eq 8) of labels 0/1 and logits of any one shape; a scalar.

    Written as (1 - t) l + s softplus(-l) with s = 1 + t (w - 1), which is finite for every finite logit: what
    Eq 9 means, and the value of `tf.nn.weighted_cross_entropy_with_logits`. That op's gradient is wrong at a
    logit of exactly 0, where its |l| and max(-l, 0) have none; softplus has the right one.

    >>> round(float(weighted_cross_entropy(tf.constant([1.0, 0.0]), tf.constant([0.0, 0.0]), 3.0)), 4)
    1.3863
    """
    scale = 1 + labels * (positive_weight - 1)
    return tf.reduce_mean((1 - labels) * logits + scale * tf.nn.softplus(-logits))


def dice_loss(masks: tf.Tensor, probabilities: tf.Tensor, has_mask: tf.Tensor) -> tf.Tensor:
    """1 - (2 sum(y p) + 1) / (sum(y) + sum(p) + 1) over all pixels of the batch together; a scalar in 0-1.

    `masks` 0/1 and `probabilities` 0-1 are (B, S, S); `has_mask` (B,) 0/1 leaves out images without ground
    truth. The paper does not give the form; smooth 1 over the flattened batch is its released code's.

    >>> masks = tf.constant([[[1.0, 0.0]]])
    >>> round(float(dice_loss(masks, tf.constant([[[1.0, 0.5]]]), tf.constant([1.0]))), 4)
    0.1429
    """
    counted = has_mask[:, tf.newaxis, tf.newaxis]
    masks, probabilities = masks * counted, probabilities * counted
    overlap = tf.reduce_sum(masks * probabilities)
    total = tf.reduce_sum(masks) + tf.reduce_sum(probabilities)
    return 1 - (2 * overlap + 1) / (total + 1)


def single_task_loss(labels: tf.Tensor, logits: tf.Tensor, weights: LossWeights) -> tf.Tensor:
    """classification_weight x weighted cross-entropy; `labels` and `logits` are (B,)."""
    return weights.classification * weighted_cross_entropy(labels, logits, weights.positive)


def multitask_loss(
    labels: tf.Tensor,
    logits: tf.Tensor,
    masks: tf.Tensor,
    mask_probabilities: tf.Tensor,
    has_mask: tf.Tensor,
    weights: LossWeights,
) -> tf.Tensor:
    """classification_weight x weighted cross-entropy + mask_weight x Dice (Eq 11); shapes as in the two."""
    dice = dice_loss(masks, mask_probabilities, has_mask)
    return single_task_loss(labels, logits, weights) + weights.mask * dice
