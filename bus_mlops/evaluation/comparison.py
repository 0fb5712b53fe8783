"""Is one model better than another? Corrected resampled t-test, clustered paired bootstrap, Holm's adjustment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.intervals import Interval, bootstrap_values, percentiles, rarer_groups, unseen_share
from bus_mlops.evaluation.metric import validated
from bus_mlops.evaluation.resampling import GroupWeights, group_weights, weights_within


@dataclass(frozen=True)
class ResampledTest:
    """Outcome of the corrected resampled t-test; differences are candidate minus baseline, fractions."""

    difference: float
    standard_error: float
    t: float
    degrees_of_freedom: int
    p_one_sided: float
    low: float
    high: float
    confidence: float
    pairs: int


def corrected_resampled_test(
    candidate: npt.ArrayLike, baseline: npt.ArrayLike, test_to_train: float, confidence: float = 0.95
) -> ResampledTest:
    """Nadeau and Bengio's test that the candidate's metric is higher, paired over (fold, seed).

    t = d / sqrt((1/k + n_test/n_train) s^2) with k - 1 degrees of freedom, d and s^2 the mean and sample
    variance of the k differences (Nadeau and Bengio, Inference for the generalization error, Machine Learning 52,
    2003, section 4). The plain t-test forgets that training parts overlap and finds differences that are not there.
    When all differences are equal, t is 0 for no difference and infinite otherwise.

    Args:
        candidate: The metric of each (fold, seed), (k,).
        baseline: The same of the baseline, in the same order.
        test_to_train: n_test/n_train of a fold.
        confidence: Of the two-sided interval.

    Returns:
        Among others `p_one_sided`, for "the candidate is better".

    Raises:
        EvaluationError: The two are not of the same length of at least 2, hold NaN, or the ratio is not above 0.

    Example:
        >>> test = corrected_resampled_test([0.82, 0.84, 0.83, 0.86, 0.85], [0.80] * 5, test_to_train=0.25)
        >>> round(test.difference, 3), round(test.t, 3), round(test.p_one_sided, 4)
        (0.04, 3.771, 0.0098)
    """
    from scipy import stats

    a, b = np.asarray(candidate, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size < 2:
        raise EvaluationError(
            f"the resampled t-test needs the same two or more (fold, seed) pairs of both models but got "
            f"{a.size} and {b.size}."
        )
    if np.isnan(a).any() or np.isnan(b).any():
        raise EvaluationError("the resampled t-test got NaN: a fold has no value of the metric.")
    if not test_to_train > 0:
        raise EvaluationError(f"n_test/n_train must be above 0 but is {test_to_train}.")
    differences = a - b
    mean = float(differences.mean())
    deviation = float(differences.std(ddof=1))
    error = float(np.sqrt(1 / a.size + test_to_train)) * deviation
    degrees = a.size - 1
    # Equal differences leave rounding noise behind; dividing by it would turn chance into significance.
    if deviation <= 1e-12:
        error = 0.0
        t = 0.0 if abs(mean) <= 1e-12 else float(np.copysign(np.inf, mean))
    else:
        t = mean / error
    reach = float(stats.t.ppf((1 + confidence) / 2, degrees)) * error
    p = float(stats.t.sf(t, degrees))
    return ResampledTest(mean, error, t, degrees, p, mean - reach, mean + reach, confidence, int(a.size))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: below alpha where the hypothesis is rejected at level alpha.

    The smallest of m is multiplied by m, the next by m - 1, and so on, never below its predecessor, never above 1
    (Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979). NaN
    (not tested) stays NaN and is not counted.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    result = [float("nan")] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if p == p)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        result[i] = largest
    return result


def paired_bootstrap_difference(
    metric: str,
    labels: npt.ArrayLike,
    candidate: npt.ArrayLike,
    baseline: npt.ArrayLike,
    groups: npt.ArrayLike,
    candidate_threshold: npt.ArrayLike = 0.5,
    baseline_threshold: npt.ArrayLike = 0.5,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    folds: npt.ArrayLike | None = None,
) -> Interval:
    """Percentile interval of candidate minus baseline (fraction) on the same images.

    Each resample draws whole groups and computes both models on the very same images, so what is hard for
    both cancels. For non-inferiority compare `low` with minus the margin. Where two models that answer differently are
    equally right in every resample, the ends are as far as `unseen_share` of the rarer class's groups: on five cases
    nothing was ruled out.

    Args:
        metric: A name in `METRICS`.
        labels: (N,), 0 or 1.
        candidate: Probabilities (N,), 0-1.
        baseline: The same of the baseline.
        groups: What is drawn together, (N,).
        candidate_threshold: From which probability on the label is malignant; one, or (N,).
        baseline_threshold: The same of the baseline.
        resamples: How many.
        confidence: Of the two-sided interval.
        seed: Of the draw.
        folds: Within which groups are drawn, (N,); None: from all images.

    Raises:
        EvaluationError: The arrays do not fit, or too many resamples lack a class.
    """
    y, p = validated(labels, candidate)
    _, q = validated(labels, baseline)
    weights = group_weights(groups, resamples, seed)
    if folds is not None:
        weights = weights_within(folds, groups, resamples, seed)
    drawn, estimate = (
        bootstrap_values(metric, y, p, each, candidate_threshold)
        - bootstrap_values(metric, y, q, each, baseline_threshold)
        for each in (weights, GroupWeights.identity(y.size))
    )
    low, high, valid = percentiles(drawn, confidence)
    if high - low <= 1e-12 and not np.array_equal(p, q):
        reach = unseen_share(rarer_groups(y, groups), confidence)
        low, high = max(low - reach, -1.0), min(high + reach, 1.0)
    return Interval(float(estimate[0]), low, high, confidence, valid)
