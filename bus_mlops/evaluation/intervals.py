"""How sure a number is: mean and standard deviation over folds, and the case-clustered bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metrics import ALL_METRICS, rates, sorted_roc_auc, validated

Array = npt.NDArray[Any]

# Resamples held at once: 500 x 4,000 images in single precision are 8 MB an array.
CHUNK = 500
# A resample may miss a class altogether; when this share does, an interval would say nothing.
LARGEST_DEGENERATE_SHARE = 0.05


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (ddof 1) over folds; the latter is NaN for a single fold."""

    mean: float
    deviation: float
    count: int


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided percentile interval."""

    estimate: float
    low: float
    high: float
    confidence: float
    resamples: int


def spread(values: npt.ArrayLike) -> Spread:
    """Mean and standard deviation over folds (in the unit of the values); raises EvaluationError on NaN.

    >>> folds = spread([0.7, 0.8, 0.9])
    >>> round(folds.mean, 3), round(folds.deviation, 3), folds.count
    (0.8, 0.1, 3)
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or np.isnan(array).any():
        raise EvaluationError(f"a mean over folds needs a number from each fold but got {array.tolist()}.")
    deviation = float(array.std(ddof=1)) if array.size > 1 else float("nan")
    return Spread(float(array.mean()), deviation, int(array.size))


def bootstrap_interval(
    metric: str,
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    groups: npt.ArrayLike,
    threshold: npt.ArrayLike = 0.5,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of one of `ALL_METRICS` over pooled out-of-fold predictions, all (N,), fractions.

    Whole groups (the images of a case, and their near-duplicates) are drawn with replacement, because images
    of one case are not independent: drawing images would give an interval that is too narrow. It carries the
    chance of which cases were collected, not that of a training. Raises EvaluationError.
    """
    y, p = validated(labels, probabilities)
    weights = group_weights(groups, resamples, seed)
    drawn = bootstrap_values(metric, y, p, weights, threshold)
    estimate = float(bootstrap_values(metric, y, p, GroupWeights.identity(y.size), threshold)[0])
    low, high, valid = percentiles(drawn, confidence)
    return Interval(estimate, low, high, confidence, valid)


@dataclass(frozen=True)
class GroupWeights:
    """How often each group was drawn, (resamples, groups), and which group each image is in, (N,)."""

    counts: Array
    member: Array

    @classmethod
    def identity(cls, images: int) -> GroupWeights:
        """One resample that holds every image once."""
        return cls(np.ones((1, images)), np.arange(images))

    @property
    def resamples(self) -> int:
        """How many resamples there are."""
        return int(self.counts.shape[0])


def group_weights(groups: npt.ArrayLike, resamples: int, seed: int) -> GroupWeights:
    """Draw `resamples` times as many groups as there are, with replacement; the same seed, the same draw."""
    if resamples < 1:
        raise EvaluationError(f"bootstrap resamples must be 1 or more but got {resamples}.")
    names, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    if len(names) < 2:
        raise EvaluationError("a clustered bootstrap needs two groups of images or more but got one.")
    return GroupWeights(_draws(len(names), resamples, seed), member)


@lru_cache(maxsize=2)
def _draws(groups: int, resamples: int, seed: int) -> Array:
    """Counts (resamples, groups); those of a group lie next to each other in memory, as ROC areas read them."""
    drawn = np.random.default_rng(seed).integers(0, groups, size=(resamples, groups))
    flat = drawn + groups * np.arange(resamples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=resamples * groups).reshape(resamples, groups)
    # Rows of one table share their images; the cache must not be changed through one of them.
    counts = np.asfortranarray(counts, dtype=np.float32)
    counts.flags.writeable = False
    return counts


def bootstrap_values(
    metric: str, labels: Array, probabilities: Array, weights: GroupWeights, threshold: npt.ArrayLike = 0.5
) -> npt.NDArray[np.float64]:
    """The metric (fraction) of each resample, (resamples,); NaN where a resample lacks a class."""
    if metric not in ALL_METRICS:
        raise EvaluationError(f"unknown metric {metric!r}: choose one of {', '.join(ALL_METRICS)}.")
    if weights.member.shape != labels.shape:
        raise EvaluationError(f"{labels.size} predictions but {weights.member.size} groups: one for each is needed.")
    if metric == "roc_auc":
        return _roc_areas(labels, probabilities, weights)
    groups = weights.counts.shape[1]
    if metric == "brier":
        errors = np.bincount(weights.member, (probabilities - labels) ** 2, minlength=groups)
        sizes = np.bincount(weights.member, minlength=groups)
        return np.asarray(weights.counts @ errors / (weights.counts @ sizes), dtype=np.float64)
    predicted = probabilities >= np.asarray(threshold, dtype=np.float64)
    cells = [(labels == t) & (predicted == c) for t in (0, 1) for c in (False, True)]
    sums = [weights.counts @ np.bincount(weights.member, cell, minlength=groups) for cell in cells]
    return np.asarray(rates(*sums)[metric], dtype=np.float64)


def _roc_areas(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    benign, malignant = (np.flatnonzero(labels == label) for label in (0, 1))
    benign = benign[np.argsort(probabilities[benign], kind="stable")]
    scores, groups = zip(*((probabilities[i], weights.member[i]) for i in (benign, malignant)), strict=True)
    chunks = np.array_split(weights.counts.T, max(1, -(-weights.resamples // CHUNK)), axis=1)
    areas = [sorted_roc_auc(scores[0], each[groups[0]], scores[1], each[groups[1]]) for each in chunks]
    return np.concatenate(areas)


def percentiles(drawn: Array, confidence: float) -> tuple[float, float, int]:
    """Low and high end of the two-sided interval of bootstrap values, and how many were defined."""
    if not 0 < confidence < 1:
        raise EvaluationError(f"confidence must be between 0 and 1 but got {confidence}.")
    valid = drawn[~np.isnan(drawn)]
    if valid.size < (1 - LARGEST_DEGENERATE_SHARE) * drawn.size:
        raise EvaluationError(
            f"{drawn.size - valid.size} of {drawn.size} bootstrap resamples lack one of the classes: there "
            "are too few cases of it for an interval; evaluate more images."
        )
    tail = (1 - confidence) / 2
    low, high = np.quantile(valid, [tail, 1 - tail])
    return float(low), float(high), int(valid.size)
