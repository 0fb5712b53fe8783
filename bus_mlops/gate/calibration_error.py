"""Expected calibration error, and the clustered bootstrap of how it differs between two models."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.intervals import Interval, percentiles
from bus_mlops.evaluation.metric import validated
from bus_mlops.evaluation.resampling import GroupWeights, group_weights

BINS = 10


def calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean distance (fraction) between predicted and observed share of malignancy over equally filled bins.

    sum over bins of |sum of (p - y) in the bin| / N (Naeini et al., Obtaining well calibrated probabilities using
    Bayesian binning, 2015, with bins of equal counts). Small samples give values above 0 even to perfect
    probabilities.

    Raises:
        EvaluationError: As in `evaluation.metric.validated`.

    Example:
        >>> round(calibration_error([0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]), 3)
        0.25
    """
    y, p = validated(labels, probabilities)
    return float(_errors(y, p, GroupWeights.identity(y.size))[0])


def calibration_difference(
    labels: npt.ArrayLike,
    candidate: npt.ArrayLike,
    baseline: npt.ArrayLike,
    groups: npt.ArrayLike,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of candidate minus baseline calibration error on the same images.

    Whole groups are drawn; the bins are those of the full sample.

    Args:
        labels: (N,), 0 or 1.
        candidate: Probabilities (N,), 0-1.
        baseline: The same of the baseline.
        groups: What is drawn together, (N,).
        resamples: How many.
        confidence: Of the two-sided interval.
        seed: Of the draw.

    Raises:
        EvaluationError: As in `evaluation.metric.validated`.
    """
    y, p = validated(labels, candidate)
    _, q = validated(labels, baseline)
    drawn, estimate = (
        _errors(y, p, weights) - _errors(y, q, weights)
        for weights in (group_weights(groups, resamples, seed), GroupWeights.identity(y.size))
    )
    low, high, valid = percentiles(drawn, confidence)
    return Interval(float(estimate[0]), low, high, confidence, valid)


def _errors(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], weights: GroupWeights
) -> npt.NDArray[np.float64]:
    """The calibration error of each resample, (resamples,)."""
    edges = np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    member = np.searchsorted(edges, probabilities, side="left")
    groups = weights.counts.shape[1]
    # Residuals summed by (group, bin): a resample's bins are then one matrix product.
    cells = weights.member * BINS + member
    residuals = np.bincount(cells, probabilities - labels, minlength=groups * BINS).reshape(groups, BINS)
    sizes = np.bincount(weights.member, minlength=groups)
    return np.asarray(np.abs(weights.counts @ residuals).sum(axis=1) / (weights.counts @ sizes), dtype=np.float64)
