"""Is one ensemble better than another? The difference of their folds, its error from cases and from trainings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.intervals import LARGEST_DEGENERATE_SHARE, bootstrap_values, rarer_groups, unseen_share
from bus_mlops.evaluation.metric import validated
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import GroupWeights, weights_within
from bus_mlops.spec import CellKey

# Of a variance: what rounding leaves of none. Standard errors that a 95 % interval reaches to either side.
EQUAL, REACH = 1e-24, 1.959964
# Degrees of freedom from which on Student's t is the normal distribution.
LARGE = 10_000
# Draws that tell what the variance between seeds shares with the error of cases: a mean over folds and seeds.
SHARED_RESAMPLES = 400


@dataclass(frozen=True)
class PairedImages:
    """Two models on the same test images, in the same order, with the fold (1-based) that tests each; all (N,)."""

    folds: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    candidate: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]
    groups: npt.NDArray[np.object_]
    candidate_threshold: npt.NDArray[np.float64]
    baseline_threshold: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Mean over folds of a difference (fraction), and the two parts of its standard error.

    Attributes:
        estimate: Candidate minus baseline, turned round where a lower value is better: above 0 is better.
        case_error: What other cases would change: clustered bootstrap, with these networks.
        seed_error: What other trainings would change: from the variance within folds between seeds.
        degrees_of_freedom: Of the t distribution that `estimate / standard_error` is held against.
    """

    estimate: float
    case_error: float
    seed_error: float
    degrees_of_freedom: float

    @property
    def standard_error(self) -> float:
        """Both parts together; rounding noise of equal differences counts as none."""
        error = float(np.hypot(self.case_error, self.seed_error))
        return error if error > 1e-12 else 0.0

    @property
    def t(self) -> float:
        """The difference in standard errors; 0 for no difference, infinite where nothing could change it."""
        if self.standard_error > 0:
            return self.estimate / self.standard_error
        return 0.0 if abs(self.estimate) <= 1e-12 else float(np.copysign(np.inf, self.estimate))

    @property
    def p_one_sided(self) -> float:
        """Of "the candidate is better"."""
        from scipy import stats

        return float(stats.t.sf(self.t, self.degrees_of_freedom))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Both ends of the two-sided interval."""
        from scipy import stats

        reach = float(stats.t.ppf((1 + confidence) / 2, self.degrees_of_freedom)) * self.standard_error
        return self.estimate - reach, self.estimate + reach


class Network(NamedTuple):
    """What one network says of the test images of its fold, in the same order for every seed; all (n,)."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    groups: npt.NDArray[np.object_]
    thresholds: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trainings:
    """The metric (fraction) of each network of a model alone, and how many of them are behind an answer of a fold.

    `alone` is what each network answers; without it nothing is taken off for what cases change already.
    """

    values: Mapping[CellKey, float]
    networks: int
    alone: Mapping[CellKey, Network] = field(default_factory=dict)

    def shared_with_cases(self, metric: str, resamples: int, seed: int) -> float:
        """The part of the variance between seeds that other cases would change: the error of cases has it already.

        Networks of other seeds differ in which images they get right. On a finite test part that alone makes their
        metrics differ: by the variance, over draws of leakage groups, of each network's metric around the mean of its
        fold's networks, pooled over folds as `variance` pools. The unit is that of the variance of a single network.

        Args:
            metric: A name in `METRICS`.
            resamples: How many draws a fold.
            seed: Of the draws.
        """
        folds: dict[int, list[Network]] = {}
        for cell in sorted(self.alone):
            folds.setdefault(cell.fold, []).append(self.alone[cell])
        apart, degrees = 0.0, 0
        for networks in folds.values():
            first = networks[0]
            weights = weights_within(np.ones(first.labels.size), first.groups, resamples, seed)
            drawn = np.array(
                [bootstrap_values(metric, e.labels, e.probabilities, weights, e.thresholds) for e in networks]
            )
            groups = weights.counts.shape[1]
            spread = np.nanvar(drawn - drawn.mean(axis=0), axis=1).sum()
            apart += float(spread) * groups / (groups - 1)
            degrees += len(networks) - 1
        return apart / degrees if degrees else 0.0

    def variance(self, shared: float = 0.0) -> tuple[float, int]:
        """Of the mean over folds of the model's metric by what its trainings drew, and its degrees of freedom.

        The pooled variance within folds, between seeds, less what is `shared` with the error of cases (at least 0),
        over folds x networks.

        Raises:
            EvaluationError: A fold has one seed only, or a value is NaN.

        Example:
            >>> cells = {CellKey(1, 1): 0.1, CellKey(1, 2): 0.3, CellKey(2, 1): 0.0, CellKey(2, 2): 0.2}
            >>> variance, degrees = Trainings(cells, networks=2).variance()
            >>> round(variance, 4), degrees
            (0.005, 2)
        """
        values = np.array(list(self.values.values()), dtype=np.float64)
        folds, member = np.unique([fold for fold, _ in self.values], return_inverse=True)
        seeds, degrees = np.bincount(member), values.size - folds.size
        if np.isnan(values).any():
            raise EvaluationError("the variance between seeds got NaN: a training has no value of the metric.")
        if seeds.min() < 2:
            raise EvaluationError("the variance between seeds needs two or more seeds of every fold: train more.")
        residuals = values - (np.bincount(member, values) / seeds)[member]
        within = max(0.0, float(residuals @ residuals) / degrees - shared)
        return within / (folds.size * self.networks), int(degrees)


def clustered_difference(
    metric: str, images: PairedImages, trainings: Sequence[Trainings], resamples: int = 2000, seed: int = 0
) -> Difference:
    """The mean over folds of the difference in a metric between two ensembles, with its standard error.

    Its variance is the sum of two. *Cases*: in each fold whole leakage groups are drawn with replacement, and both
    ensembles, as they are, judged on the same draw. *Trainings*: of each model the variance within folds between the
    metric of its networks, over folds x networks behind an answer, less the part that other cases would change, which
    the first has already. To first order an ensemble's metric is the mean of what its members add, so this is the
    ensemble's own variance; what is of second order (single networks vary more around a worse mean) makes it too
    large rather than too small.

    The degrees of freedom are Satterthwaite's, of the trainings' folds x (seeds - 1) and the cases' groups less folds.

    Args:
        metric: A name in `METRICS`.
        images: What the two ensembles answer.
        trainings: Of the two models; none where only other cases are asked for.
        resamples: How many a fold.
        seed: Of the draws.

    Raises:
        EvaluationError: A fold has one class or one group only, or holds NaN; or there is one seed.
    """
    direction = METRICS.get_known(metric).direction
    found = [_fold(metric, images, int(fold), resamples, seed) for fold in np.unique(images.folds)]
    count, groups = len(found), sum(each.groups for each in found)
    cases = sum(each.variance for each in found) / count**2
    if cases <= EQUAL and not np.array_equal(images.candidate, images.baseline):
        # No resample differs. That is little to say of few groups: as if by Wilson's end of a share that none shows.
        cases = (unseen_share(rarer_groups(images.labels, images.groups)) / REACH) ** 2
    parts = [(cases, groups - count)]
    fewer = min(resamples, SHARED_RESAMPLES)
    parts += [each.variance(each.shared_with_cases(metric, fewer, seed)) for each in trainings]
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / degrees for variance, degrees in parts)
    return Difference(
        estimate=direction * float(np.mean([each.difference for each in found])),
        case_error=math.sqrt(parts[0][0]),
        seed_error=math.sqrt(max(0.0, total - parts[0][0])),
        degrees_of_freedom=total**2 / spread if spread > 0 else float(groups - count),
    )


class _Fold(NamedTuple):
    """Of one fold: the difference, its variance over draws of groups, and how many groups there are."""

    difference: float
    variance: float
    groups: int


def _fold(metric: str, images: PairedImages, fold: int, resamples: int, seed: int) -> _Fold:
    rows = images.folds == fold
    y, p = validated(images.labels[rows], images.candidate[rows])
    _, q = validated(images.labels[rows], images.baseline[rows])
    weights = weights_within(images.folds[rows], images.groups[rows], resamples, seed)
    drawn, found = (
        bootstrap_values(metric, y, p, each, images.candidate_threshold[rows])
        - bootstrap_values(metric, y, q, each, images.baseline_threshold[rows])
        for each in (weights, GroupWeights.identity(y.size))
    )
    valid = drawn[~np.isnan(drawn)]
    if valid.size < (1 - LARGEST_DEGENERATE_SHARE) * drawn.size:
        raise EvaluationError(
            f"{drawn.size - valid.size} of {drawn.size} bootstrap resamples of fold {fold} lack one of the classes: "
            "use fewer folds or more images."
        )
    groups = weights.counts.shape[1]
    # A draw of g groups from g varies by (g - 1) / g of what the cases do.
    return _Fold(float(found[0]), float(valid.var()) * groups / (groups - 1), groups)


def chance_to_find(gain: float, standard_error: float, degrees_of_freedom: float, level: float) -> float:
    """The probability (0-1) that a true gain is found by a one-sided t-test of this standard error at this level.

    Example:
        >>> round(chance_to_find(0.03, 0.012, 40, 0.05), 2)
        0.79
    """
    from scipy import stats

    if standard_error <= 0:
        return float(gain > 0)
    if degrees_of_freedom > LARGE:
        return float(stats.norm.sf(stats.norm.isf(level) - gain / standard_error))
    least = float(stats.t.isf(level, degrees_of_freedom))
    return float(stats.nct.sf(least, degrees_of_freedom, gain / standard_error))
