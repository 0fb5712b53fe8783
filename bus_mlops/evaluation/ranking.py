"""What the order of scores says beside the area under the ROC curve: average precision, a rate where the other is .90.

All of a bootstrap's resamples at a time: a line an image, a column a resample, chunks of `roc.CHUNK`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.resampling import GroupWeights
from bus_mlops.evaluation.roc import CHUNK

Array = npt.NDArray[Any]
# Scores of both classes ascending, and their weights: benign (B,), (B, R), malignant (M,), (M, R).
Statistic = Callable[[Array, Array, Array, Array], Array]

# The rate at which the other one is read off.
FIXED = 0.9


def average_precision(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """The mean over malignant images of the precision at their score, of each resample, (resamples,).

    That of a useless model is the share of malignant images. NaN where a resample lacks a class.
    """
    return _in_chunks(_average_precision, labels, probabilities, weights)


def sensitivity_at_specificity(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """The height of the ROC curve where specificity is `FIXED`, of each resample, (resamples,).

    The cut is that of the images themselves, which no threshold of validation images reaches exactly: it compares
    models, and promises nothing. Between two scores, and across images of one score, the curve is a straight line.
    """
    return _in_chunks(_rate_at_fixed, labels, probabilities, weights)


def specificity_at_sensitivity(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """`sensitivity_at_specificity` with the two rates exchanged."""
    return _in_chunks(_rate_at_fixed, 1 - labels, -probabilities, weights)


def _in_chunks(
    statistic: Statistic, labels: Array, probabilities: Array, weights: GroupWeights
) -> npt.NDArray[np.float64]:
    rows = [np.flatnonzero(labels == label) for label in (0, 1)]
    rows = [each[np.argsort(probabilities[each], kind="stable")] for each in rows]
    scores, groups = zip(*((probabilities[each], weights.member[each]) for each in rows), strict=True)
    if not all(each.size for each in scores):
        return np.full(weights.resamples, np.nan)
    chunks = np.array_split(weights.counts.T, max(1, -(-weights.resamples // CHUNK)), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = [statistic(scores[0], each[groups[0]], scores[1], each[groups[1]]) for each in chunks]
    return np.concatenate(found).astype(np.float64)


def _below(weights: Array) -> Array:
    """Weight of the images before each, (N + 1, R), the last line holding all."""
    sums = np.zeros((weights.shape[0] + 1, weights.shape[1]), weights.dtype)
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _average_precision(benign: Array, benign_weights: Array, malignant: Array, malignant_weights: Array) -> Array:
    fewer_benign, fewer_malignant = _below(benign_weights), _below(malignant_weights)
    right = fewer_malignant[-1] - fewer_malignant[np.searchsorted(malignant, malignant)]
    wrong = fewer_benign[-1] - fewer_benign[np.searchsorted(benign, malignant)]
    # An image that was not drawn may have no image at or above its score: 0 / 0, of weight 0.
    precision = np.divide(right, right + wrong, out=np.zeros_like(right), where=malignant_weights > 0)
    area = np.einsum("ij,ij->j", malignant_weights, precision, dtype=np.float64) / fewer_malignant[-1]
    return np.where(fewer_benign[-1] > 0, area, np.nan)


def _rate_at_fixed(benign: Array, benign_weights: Array, malignant: Array, malignant_weights: Array) -> Array:
    fewer_benign, fewer_malignant = _below(benign_weights), _below(malignant_weights)
    every, target = fewer_benign[-1].astype(np.float64), fewer_benign[-1] * FIXED
    column = np.arange(every.size)
    # The benign score at which the share of those below it passes the fixed specificity, and all images of that score.
    crossing = np.clip((fewer_benign < np.round(target, 6)).sum(axis=0) - 1, 0, None)
    cut = benign[crossing]
    left, right = (np.searchsorted(benign, cut, side=side) for side in ("left", "right"))
    under, upto = fewer_benign[left, column], fewer_benign[right, column]
    called = (upto - target) / np.where(upto > under, upto - under, 1)
    left, right = (np.searchsorted(malignant, cut, side=side) for side in ("left", "right"))
    under, upto = fewer_malignant[left, column], fewer_malignant[right, column]
    found = fewer_malignant[-1] - upto + called * (upto - under)
    return np.where(every > 0, found / fewer_malignant[-1], np.nan)
