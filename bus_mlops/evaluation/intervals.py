"""How sure a number is: mean and standard deviation over folds, and the case-clustered bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metric import validated
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import GroupWeights, group_weights

Array = npt.NDArray[Any]

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

    @property
    def in_words(self) -> str:
        """A difference (fraction) with its interval, for people."""
        return f"{self.estimate:+.3f} ({100 * self.confidence:g} % interval {self.low:+.3f} to {self.high:+.3f})"


def spread(values: npt.ArrayLike) -> Spread:
    """Mean and standard deviation over folds, in the unit of the values.

    Raises:
        EvaluationError: A value is NaN.

    Example:
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
    """Percentile interval of a metric (fraction) of probabilities over pooled out-of-fold predictions.

    Whole groups (the images of a case, and their near-duplicates) are drawn with replacement, because images
    of one case are not independent: drawing images would give an interval that is too narrow. It carries the
    chance of which cases were collected, not that of a training.

    Args:
        metric: A name in `METRICS`.
        labels: (N,), 0 or 1.
        probabilities: (N,), 0-1.
        groups: What is drawn together, (N,).
        threshold: From which probability on the label is malignant; one, or (N,).
        resamples: How many.
        confidence: Of the two-sided interval.
        seed: Of the draw.

    Raises:
        EvaluationError: The arrays do not fit, or too many resamples lack a class.
    """
    y, p = validated(labels, probabilities)
    weights = group_weights(groups, resamples, seed)
    drawn = bootstrap_values(metric, y, p, weights, threshold)
    estimate = float(bootstrap_values(metric, y, p, GroupWeights.identity(y.size), threshold)[0])
    low, high, valid = percentiles(drawn, confidence)
    return Interval(estimate, low, high, confidence, valid)


def bootstrap_values(
    metric: str, labels: Array, probabilities: Array, weights: GroupWeights, threshold: npt.ArrayLike = 0.5
) -> npt.NDArray[np.float64]:
    """The metric (fraction) of each resample, (resamples,); NaN where a resample lacks a class."""
    known = METRICS.get_known(metric)
    if weights.member.shape != labels.shape:
        raise EvaluationError(f"{labels.size} predictions but {weights.member.size} groups: one for each is needed.")
    return known.resampled(labels, probabilities, weights, threshold)


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
