"""Calibration error, what of it small samples explain, how it differs between two models; slope and intercept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import logit
from bus_mlops.evaluation.calibration import tells_slope
from bus_mlops.evaluation.intervals import Interval
from bus_mlops.evaluation.metric import validated
from bus_mlops.evaluation.resampling import GroupWeights
from bus_mlops.gate.calibration import maximum_likelihood

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


def expected_error(probabilities: npt.ArrayLike, groups: npt.ArrayLike, draws: int = 2000, seed: int = 0) -> float:
    """The `calibration_error` (fraction) that these probabilities have on average when every one of them is true.

    Labels are drawn from the probabilities, images of one leakage group together (by the same random number), since
    they show the same lesion: what a perfectly calibrated model of these answers would be charged with.

    Args:
        probabilities: (N,), 0-1.
        groups: What is drawn together, (N,).
        draws: How many sets of labels.
        seed: Of the draws.

    Example:
        >>> round(expected_error([0.5] * 100, range(100)), 2)
        0.04
    """
    p = np.asarray(probabilities, dtype=np.float64)
    names, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    drawn = np.random.default_rng(seed).random((draws, names.size))[:, member] < p
    bins = np.eye(BINS)[_bins(p)]
    return float((np.abs((p - drawn) @ bins).sum(axis=1) / p.size).mean())


def calibration_curve(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of the label on the logit of the probability, both inputs (N,).

    1 and 0 for perfect probabilities; a slope below 1 says that they are too extreme, an intercept below 0 that they
    are too high (Cox, Two further applications of a model for binary regression, Biometrika 45, 1958). Both are NaN
    where the classes are separated, or the probabilities hardly differ (`evaluation.calibration.tells_slope`): there is
    no such curve.

    Raises:
        EvaluationError: As in `evaluation.metric.validated`.
    """
    y, p = validated(labels, probabilities)
    x = logit(p)
    separated = x[y == 0].max() <= x[y == 1].min() or x[y == 1].max() <= x[y == 0].min()
    return (
        (float("nan"), float("nan"))
        if separated or not tells_slope(y, p)
        else maximum_likelihood(x, y.astype(np.float64))
    )


def calibration_difference(
    labels: npt.ArrayLike,
    candidate: npt.ArrayLike,
    baseline: npt.ArrayLike,
    weights: GroupWeights,
    excess: float,
    confidence: float = 0.95,
) -> Interval:
    """Candidate minus baseline excess calibration error on the same images, with a normal interval.

    Its width is the bootstrap's standard deviation. Its middle is the estimate and not the bootstrap's, since a
    resample has the error of small samples twice. The bins are those of the full sample.

    Args:
        labels: (N,), 0 or 1.
        candidate: Probabilities (N,), 0-1.
        baseline: The same of the baseline.
        weights: Of the bootstrap.
        excess: The difference of the `expected_error` of the two, which is taken off.
        confidence: Of the two-sided interval.

    Raises:
        EvaluationError: As in `evaluation.metric.validated`.
    """
    from scipy import stats

    y, p = validated(labels, candidate)
    _, q = validated(labels, baseline)
    drawn, estimate = (_errors(y, p, each) - _errors(y, q, each) for each in (weights, GroupWeights.identity(y.size)))
    middle = float(estimate[0]) - excess
    reach = float(stats.norm.ppf((1 + confidence) / 2) * drawn.std(ddof=1))
    return Interval(middle, middle - reach, middle + reach, confidence, weights.resamples)


def _errors(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], weights: GroupWeights
) -> npt.NDArray[np.float64]:
    """The calibration error of each resample, (resamples,)."""
    member = _bins(probabilities)
    groups = weights.counts.shape[1]
    # Residuals summed by (group, bin): a resample's bins are then one matrix product.
    cells = weights.member * BINS + member
    residuals = np.bincount(cells, probabilities - labels, minlength=groups * BINS).reshape(groups, BINS)
    sizes = np.bincount(weights.member, minlength=groups)
    return np.asarray(np.abs(weights.counts @ residuals).sum(axis=1) / (weights.counts @ sizes), dtype=np.float64)


def _bins(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bin of each image, (N,): equally filled as far as ties allow."""
    edges = np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, probabilities, side="left").astype(np.int64)
