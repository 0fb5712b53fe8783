"""The ROC curve, the area under it, one or many resamples at a time, and Youden's threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.metric import validated
from bus_mlops.evaluation.resampling import GroupWeights

Array = npt.NDArray[Any]

# Resamples held at once: 500 x 4,000 images in single precision are 8 MB an array.
CHUNK = 500
# A curve of thousands of images has thousands of corners; no screen shows more than these.
MOST_CORNERS = 400


def weighted_roc_auc(labels: Array, probabilities: Array, weights: Array) -> npt.NDArray[np.float64]:
    """Area under the ROC curve for each row of `weights` (R, N): the weighted Mann-Whitney statistic.

    The chance that a malignant image scores above a benign one, ties counting one half. `labels` and
    `probabilities` are (N,); weights may be counts of a bootstrap. NaN for a row without one of the classes.

    >>> weighted_roc_auc(np.array([0, 1, 1]), np.array([0.2, 0.2, 0.9]), np.ones((1, 3))).tolist()
    [0.75]
    """
    benign, malignant = (np.flatnonzero(labels == label) for label in (0, 1))
    benign = benign[np.argsort(probabilities[benign], kind="stable")]
    by_image = np.asarray(weights, dtype=np.float64).T
    return sorted_roc_auc(probabilities[benign], by_image[benign], probabilities[malignant], by_image[malignant])


def sorted_roc_auc(
    benign: Array, benign_weights: Array, malignant: Array, malignant_weights: Array
) -> npt.NDArray[np.float64]:
    """`weighted_roc_auc` from the scores of each class, benign (B,) ascending and malignant (M,).

    The weights are (B, R) and (M, R), a line an image, so that all R resamples run along memory. Counts may be
    float32: their cumulative sums stay exact below 2^24.
    """
    below = np.zeros((benign.size + 1, benign_weights.shape[1]), benign_weights.dtype)
    np.cumsum(benign_weights, axis=0, out=below[1:])
    lower, upper = (np.searchsorted(benign, malignant, side=side) for side in ("left", "right"))
    wins = np.einsum("ij,ij->j", malignant_weights, below[lower], dtype=np.float64)
    tied = upper > lower
    ties = below[upper[tied]] - below[lower[tied]]
    wins += np.einsum("ij,ij->j", malignant_weights[tied], ties, dtype=np.float64) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wins / (malignant_weights.sum(axis=0, dtype=np.float64) * below[-1]), dtype=np.float64)


def resampled_roc_auc(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """`weighted_roc_auc` of each resample, (resamples,)."""
    benign, malignant = (np.flatnonzero(labels == label) for label in (0, 1))
    benign = benign[np.argsort(probabilities[benign], kind="stable")]
    scores, groups = zip(*((probabilities[i], weights.member[i]) for i in (benign, malignant)), strict=True)
    chunks = np.array_split(weights.counts.T, max(1, -(-weights.resamples // CHUNK)), axis=1)
    areas = [sorted_roc_auc(scores[0], each[groups[0]], scores[1], each[groups[1]]) for each in chunks]
    return np.concatenate(areas)


def roc_curve(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """False positive rates, true positive rates and thresholds of the ROC curve, corners only.

    The first threshold is infinite (nothing is called malignant).

    Raises:
        EvaluationError: As in `validated`.
    """
    from sklearn.metrics import roc_curve as curve

    y, p = validated(labels, probabilities)
    false_positive, true_positive, thresholds = curve(y, p)
    return false_positive, true_positive, thresholds


def evenly(count: int) -> Array:
    """Indices of at most `MOST_CORNERS` of `count` corners of a curve, first and last among them, to draw it by."""
    return np.unique(np.linspace(0, count - 1, MOST_CORNERS).round().astype(int))


def youden_threshold(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The probability from which on to say malignant that maximises sensitivity + specificity - 1.

    Halfway between two scores, the lowest one among equals (the more sensitive). To be chosen on validation
    images, never on those that it is then judged by.

    Raises:
        EvaluationError: As in `validated`.

    Example:
        >>> youden_threshold([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9])
        0.5
    """
    y, p = validated(labels, probabilities)
    cuts = _cuts(p)
    benign, malignant = np.sort(p[y == 0]), np.sort(p[y == 1])
    sensitivity = 1 - np.searchsorted(malignant, cuts) / malignant.size
    specificity = np.searchsorted(benign, cuts) / benign.size
    return float(cuts[np.argmax(np.round(sensitivity + specificity, 12))])


def threshold_at_specificity(labels: npt.ArrayLike, probabilities: npt.ArrayLike, specificity: float) -> float:
    """The lowest probability from which on to say malignant that leaves that share of benign images benign.

    Halfway between two scores, as Youden's, and to be chosen on the same kind of images. Where the highest score is
    that of too many benign images, it lies above that score: nothing is called malignant.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), 0-1.
        specificity: The share (0-1) that is reached.

    Raises:
        EvaluationError: As in `validated`.

    Example:
        >>> threshold_at_specificity([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9], 0.5)
        0.2
    """
    y, p = validated(labels, probabilities)
    cuts = np.append(_cuts(p), np.nextafter(p.max(), np.inf))
    benign = np.sort(p[y == 0])
    reached = np.round(np.searchsorted(benign, cuts) / benign.size, 12) >= specificity
    return float(cuts[np.argmax(reached)])


def _cuts(probabilities: Array) -> Array:
    """The lowest score, and what lies halfway between each two of them, ascending."""
    scores = np.unique(probabilities)
    halfway = (scores[1:] + scores[:-1]) / 2
    halfway = np.where(halfway > scores[:-1], halfway, scores[1:])  # between two neighbouring numbers there is none
    return np.concatenate([scores[:1], halfway])
