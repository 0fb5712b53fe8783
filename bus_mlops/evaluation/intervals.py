"""How sure a number is: mean and deviation over folds, the case-clustered bootstrap, and that of a mean over folds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metric import Metric, validated
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import GroupWeights, group_weights, shared_weights
from bus_mlops.evaluation.training_variance import TrainingPart, training_part, variance_of_mean

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

# A resample may miss a class altogether; when this share does, an interval would say nothing.
LARGEST_DEGENERATE_SHARE = 0.05
# A variance needs fewer resamples than an end of an interval: so many of a metric that is computed one by one.
FEWER_RESAMPLES = 400


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


@dataclass(frozen=True)
class FoldInterval:
    """An estimate with its two-sided 95 % interval; what cannot be had is NaN, and `method` says why.

    Attributes:
        method: How the interval was made, and what it does not cover.
        resamples: How many of the bootstrap were defined.
    """

    estimate: float
    low: float
    high: float
    method: str
    resamples: int


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
    chance of which cases were collected, not that of a training. A rate of 0 or 1, of which all resamples say the
    same, gets Wilson's end for the groups of the rarer class.

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
    if METRICS.get_known(metric).scale == "logit":
        low, high = opened(estimate, low, high, rarer_groups(y, groups), confidence)
    return Interval(estimate, low, high, confidence, valid)


def unseen_share(groups: float, confidence: float = 0.95) -> float:
    """What share (fraction) may be there of what none of so many groups showed: Wilson's upper end at 0.

    >>> round(unseen_share(10), 3), round(unseen_share(210), 3)
    (0.278, 0.018)
    """
    square = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    return square / (groups + square)


def opened(estimate: float, low: float, high: float, groups: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a rate, which at 0 and 1 no resample widens: there with Wilson's end for so many groups."""
    if estimate >= 1:
        return min(low, 1 - unseen_share(groups, confidence)), high
    return (low, max(high, unseen_share(groups, confidence))) if estimate <= 0 else (low, high)


def rarer_groups(labels: Array, groups: npt.ArrayLike) -> int:
    """How many groups have an image of the class that fewer have; at least 1."""
    names = np.asarray(groups).astype(str)
    return max(1, min(np.unique(names[labels == label]).size for label in (0, 1)))


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


def mean_of_folds_interval(
    metric: str, frame: pd.DataFrame, threshold: npt.ArrayLike = 0.5, resamples: int = 2000, seed: int = 0
) -> FoldInterval:
    """The mean of a metric over folds and seeds, with the 95 % interval of what further trainings would give.

    Its variance has two parts. Which images were tested: leakage groups are drawn within each fold, the same ones for
    all seeds. How trainings differ: the variance between folds, or between seeds where that is larger, that the images
    leave unexplained. The interval is symmetric on the metric's own scale (`Metric.scale`), with quantiles of
    Student's t whose degrees of freedom follow from both parts (Satterthwaite).

    Args:
        metric: A name in `METRICS`.
        frame: A row for each test image, fold and seed: label, probability, group, fold; seed where there are several,
            and the metric's own column where it is one of masks.
        threshold: From which probability on the label is malignant; one, or one a row.
        resamples: How many.
        seed: Of the draw.

    Raises:
        EvaluationError: There are no rows.
    """
    return FoldDraws.of(frame, threshold, resamples, seed).interval(metric)


def subset_interval(
    metric: str, frame: pd.DataFrame, threshold: npt.ArrayLike = 0.5, resamples: int = 2000, seed: int = 0
) -> FoldInterval:
    """A metric over pooled test predictions, such as those of a subgroup, with its 95 % interval.

    Leakage groups are drawn from all rows. The interval covers which images were collected, not how trainings differ.

    Args:
        metric: A name in `METRICS`.
        frame: A row a prediction: label, probability, group; the metric's own column where it is one of masks.
        threshold: From which probability on the label is malignant; one, or one a row.
        resamples: How many.
        seed: Of the draw.

    Returns:
        Estimate NaN where the metric needs a class that is not there.

    Raises:
        EvaluationError: There are no rows.
    """
    one = frame.assign(fold=1, seed=0)
    return FoldDraws.of(one, threshold, resamples, seed).interval(metric, trainings=False)


@dataclass(frozen=True)
class FoldDraws:
    """The test predictions of a row, fold by fold and seed by seed, with one bootstrap for all metrics."""

    folds: list[list[_Cell]]
    resamples: int

    @classmethod
    def of(cls, frame: pd.DataFrame, threshold: npt.ArrayLike = 0.5, resamples: int = 2000, seed: int = 0) -> FoldDraws:
        """Draw the groups of each fold; the arguments are those of `mean_of_folds_interval`."""
        if frame.empty:
            raise EvaluationError("there are no predictions to evaluate: train the row's folds first (`dvc repro`).")
        columns = {name: frame[name].to_numpy() for name in frame.columns}
        columns["threshold"] = np.broadcast_to(np.asarray(threshold, dtype=np.float64), len(frame))
        seeds = columns.get("seed", np.zeros(len(frame)))
        folds = []
        for stream, fold in enumerate(np.unique(columns["fold"])):
            inside = columns["fold"] == fold
            rows = [np.flatnonzero(inside & (seeds == each)) for each in np.unique(seeds[inside])]
            groups = [columns["group"][each] for each in rows]
            several = len(np.unique(np.concatenate(groups).astype(str))) > 1
            weights = shared_weights(groups, resamples, seed, stream) if several else [None] * len(rows)
            cells = ({name: column[each] for name, column in columns.items()} for each in rows)
            folds.append([_Cell(cell, own) for cell, own in zip(cells, weights, strict=True)])
        return cls(folds, resamples)

    @classmethod
    def on_draw(cls, frame: pd.DataFrame, images: pd.Series, weights: GroupWeights) -> FoldDraws:
        """At threshold 0.5, with a draw of groups that others share, whatever their folds are.

        Args:
            frame: As for `mean_of_folds_interval`, and image_id.
            images: image_id -> its place in the draw.
            weights: The draw.
        """
        folds: dict[Any, list[_Cell]] = {}
        for (fold, _), own in frame.groupby(["fold", "seed"], sort=True):
            groups, member = np.unique(weights.member[images.loc[own["image_id"]]], return_inverse=True)
            columns = {name: own[name].to_numpy() for name in own.columns}
            columns["threshold"] = np.full(len(own), 0.5)
            folds.setdefault(fold, []).append(_Cell(columns, GroupWeights(weights.counts[:, groups], member)))
        return cls(list(folds.values()), weights.resamples)

    def values(self, metric: str) -> list[Array]:
        """The metric of each fold, (seeds,), of those that have one."""
        known = METRICS.get_known(metric)
        return [np.array([cell.value(known) for cell in fold]) for fold in self._known(known)]

    def drawn(self, metric: str) -> list[Array]:
        """The metric of each fold's resamples, (seeds, resamples); of one computed one by one, of fewer.

        Raises:
            EvaluationError: A fold has one group of images only.
        """
        known = METRICS.get_known(metric)
        return [np.stack([cell.drawn(known) for cell in fold]) for fold in self._known(known)]

    def _known(self, metric: Metric) -> list[list[_Cell]]:
        """The folds that have a metric: one without any lesion mask has no Dice; the others still have theirs."""
        return [fold for fold in self.folds if not (metric.of_masks and all(cell.has_no(metric) for cell in fold))]

    def trainings(self, metric: str) -> TrainingPart:
        """What the metric's mean over folds varies by the trainings."""
        sizes = [fold[0].groups for fold in self._known(METRICS.get_known(metric))]
        return training_part(self.values(metric), self.drawn(metric), [size / (size - 1) for size in sizes])

    def interval(self, metric: str, trainings: bool = True) -> FoldInterval:
        """The mean of a metric with its interval, as `mean_of_folds_interval` has it.

        Args:
            metric: A name in `METRICS`.
            trainings: Whether it covers how trainings differ; else it is one of the networks as they are.
        """
        known = METRICS.get_known(metric)
        folds, values = self._known(known), self.values(metric)
        estimate = float(np.mean(np.concatenate(values))) if folds else math.nan
        if math.isnan(estimate):
            return FoldInterval(estimate, math.nan, math.nan, f"undefined in a fold, {known.undefined}", 0)
        if any(cell.weights is None for fold in folds for cell in fold):
            return FoldInterval(estimate, math.nan, math.nan, "a fold has one group of images only", 0)
        drawn = self.drawn(metric)
        valid = min(int((~np.isnan(each).any(axis=0)).sum()) for each in drawn)
        if valid < (1 - LARGEST_DEGENERATE_SHARE) * drawn[0].shape[1]:
            return FoldInterval(estimate, math.nan, math.nan, "a fold has too few groups of a class", valid)
        found = variance_of_mean(values, drawn, [fold[0].groups for fold in folds], trainings)
        low, high = _ends(known, estimate, found.variance, found.degrees, sum(fold[0].rarer for fold in folds))
        return FoldInterval(estimate, low, high, found.method, valid)


@dataclass(frozen=True)
class _Cell:
    """The predictions of one network, by column, and the resamples of its fold; None where it has one group only."""

    columns: dict[str, Array]
    weights: GroupWeights | None

    @property
    def groups(self) -> int:
        return self.weights.groups if self.weights else 1

    @property
    def rarer(self) -> int:
        """Groups of the class that has fewer."""
        return rarer_groups(self.columns["label"], self.columns["group"])

    def has_no(self, metric: Metric) -> bool:
        column = self.columns.get(metric.name)
        return column is None or bool(np.isnan(column.astype(np.float64)).all())

    def value(self, metric: Metric) -> float:
        value = float(self._resampled(metric, GroupWeights.identity(self.columns["label"].size))[0])
        return value if math.isfinite(value) else math.nan

    def drawn(self, metric: Metric) -> Array:
        if self.weights is None:
            raise EvaluationError("a clustered bootstrap needs two groups of images or more but got one.")
        one_by_one = metric.resample is None and not metric.of_masks
        return self._resampled(metric, self.weights.first(FEWER_RESAMPLES) if one_by_one else self.weights)

    def _resampled(self, metric: Metric, weights: GroupWeights) -> Array:
        if metric.of_masks:
            return metric.of_overlaps(self.columns[metric.name].astype(np.float64), weights)
        labels = self.columns["label"].astype(np.int64)
        return metric.resampled(labels, self.columns["probability"], weights, self.columns["threshold"])


def _ends(metric: Metric, estimate: float, variance: float, degrees: float, groups: int) -> tuple[float, float]:
    """Ends of the 95 % interval; at 0 and 1, where nothing varies, those of Wilson for this number of groups."""
    from scipy import special, stats

    reach = float(stats.t.ppf(0.975, degrees))
    if metric.scale == "identity":
        return estimate - reach * math.sqrt(variance), estimate + reach * math.sqrt(variance)
    if estimate <= 0 or estimate >= 1:
        edge = groups / (groups + reach**2)
        return (edge, 1.0) if estimate >= 1 else (0.0, 1 - edge)
    reach *= math.sqrt(variance) / (estimate * (1 - estimate))
    low, high = special.expit(special.logit(estimate) + np.array([-reach, reach]))
    return float(low), float(high)
