"""The losses of the paper on logits and probabilities; their parameters are tensors, so changing one costs nothing.

Two errors of the paper are mended here. Eq 9 as printed has the wrong sign (it equals minus Eq 8 and is unbounded
below) and is not the overflow-safe form that the text announces. Eq 10 as printed lacks the exponent gamma in its
second term. Plain cross-entropy (Eq 7) is weighted cross-entropy with weight 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bus_mlops.config import Loss
from bus_mlops.models.framework import tf


class LossParameters(NamedTuple):
    """Scalars (numbers, tensors or variables) of one formula that is weighted cross-entropy as well as focal loss.

    Attributes:
        positive: Weight of malignant cases.
        negative: Weight of benign cases.
        gamma: The exponent on the error, 0 for cross-entropy.
        classification: Weight of the first part of a multitask sum.
        mask: Weight of the second.
    """

    positive: Any
    negative: Any
    gamma: Any
    classification: Any
    mask: Any


def loss_parameters(loss: Loss) -> LossParameters:
    """The numbers that a loss of the configuration stands for.

    >>> from bus_mlops.config import Focal
    >>> loss_parameters(Focal(gamma=3, alpha=0.75))[:3]
    (0.75, 0.25, 3.0)
    """
    balance = (loss.alpha, 1 - loss.alpha, loss.gamma) if loss.kind == "focal" else (loss.positive_weight, 1.0, 0.0)
    return LossParameters(*balance, loss.classification_weight, loss.mask_weight)


def weighted_cross_entropy(labels: tf.Tensor, logits: tf.Tensor, positive_weight: tf.Tensor) -> tf.Tensor:
    """Mean weighted cross-entropy (Eq 8) of labels 0/1 and logits of any one shape; a scalar.

    What Eq 9 means, finite for every finite logit, and the value of `tf.nn.weighted_cross_entropy_with_logits`.
    That op's gradient is wrong at a logit of exactly 0, where its |l| and max(-l, 0) have none; softplus has the
    right one.

    >>> round(float(weighted_cross_entropy(tf.constant([1.0, 0.0]), tf.constant([0.0, 0.0]), 3.0)), 4)
    1.3863
    """
    return _balanced(labels, logits, positive_weight, 1.0, 0.0)


def focal_loss(labels: tf.Tensor, logits: tf.Tensor, gamma: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Mean focal loss (Eq 10) of labels 0/1 and logits of any one shape; a scalar.

    -alpha_t (1 - p_t)^gamma log p_t, where p_t is the probability given to the right class and alpha_t is alpha
    for malignant and 1 - alpha for benign: `keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True)`.
    Eq 10 has (1 - p)^gamma for malignant cases but p without gamma for benign ones.

    >>> round(float(focal_loss(tf.constant([1.0, 0.0]), tf.constant([0.0, 0.0]), 2.0, 0.25)), 4)
    0.0866
    """
    return _balanced(labels, logits, alpha, 1 - alpha, gamma)


def _balanced(labels: tf.Tensor, logits: tf.Tensor, positive: Any, negative: Any, gamma: Any) -> tf.Tensor:
    """Mean of -w (1 - p)^gamma log p, with p the probability of the right class and w the weight of that class.

    With z the logit of the right class, log p = -softplus(-z) and (1 - p)^gamma = exp(-gamma softplus(z)): finite
    for every finite logit, and so is the gradient, where Keras clips probabilities.
    """
    right = (2 * labels - 1) * logits
    weights = labels * positive + (1 - labels) * negative
    return tf.reduce_mean(weights * tf.exp(-gamma * tf.nn.softplus(right)) * tf.nn.softplus(-right))


def dice_loss(masks: tf.Tensor, probabilities: tf.Tensor, has_mask: tf.Tensor) -> tf.Tensor:
    """1 - (2 sum(y p) + 1) / (sum(y) + sum(p) + 1) over all pixels of the batch together; a scalar in 0-1.

    `masks` 0/1 and `probabilities` 0-1 are (B, S, S); `has_mask` (B,) 0/1 leaves out images without ground
    truth. The paper does not give the form; smooth 1 over the flattened batch is its released code's. It is the
    whole loss of a network that only segments.

    >>> masks = tf.constant([[[1.0, 0.0]]])
    >>> round(float(dice_loss(masks, tf.constant([[[1.0, 0.5]]]), tf.constant([1.0]))), 4)
    0.1429
    """
    counted = has_mask[:, tf.newaxis, tf.newaxis]
    masks, probabilities = masks * counted, probabilities * counted
    overlap = tf.reduce_sum(masks * probabilities)
    total = tf.reduce_sum(masks) + tf.reduce_sum(probabilities)
    return 1 - (2 * overlap + 1) / (total + 1)


def classification_loss(labels: tf.Tensor, logits: tf.Tensor, parameters: LossParameters) -> tf.Tensor:
    """Classification weight x weighted cross-entropy or focal loss; `labels` and `logits` are (B,).

    One formula for both, so that a program of one trains the other too.
    """
    values = parameters.positive, parameters.negative, parameters.gamma
    return parameters.classification * _balanced(labels, logits, *values)


def multitask_loss(classification: tf.Tensor, dice: tf.Tensor, parameters: LossParameters) -> tf.Tensor:
    """The classification loss, already weighted, + mask weight x Dice (Eq 11); scalars."""
    return classification + parameters.mask * dice
