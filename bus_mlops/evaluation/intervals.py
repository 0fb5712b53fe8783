"""How sure a number is: mean and deviation over folds, the case-clustered bootstrap, and that of a mean over folds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metric import Metric, validated
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import GroupWeights, group_weights, shared_weights

if TYPE_CHECKING:
    import pandas as pd

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


def mean_of_folds_interval(
    metric: str,
    frame: pd.DataFrame,
    threshold: npt.ArrayLike = 0.5,
    resamples: int = 2000,
    seed: int = 0,
) -> FoldInterval:
    """The mean of a metric over folds and seeds, with the 95 % interval of what further trainings would give.

    Its variance has two parts. Which images were tested: leakage groups are drawn within each fold, the same ones for
    all seeds. How trainings differ: the variance between folds and between seeds that the images leave unexplained.
    The interval is symmetric on the metric's own scale (`Metric.scale`), with quantiles of Student's t whose degrees of
    freedom follow from both parts (Satterthwaite).

    Args:
        metric: A name in `METRICS`.
        frame: A row for each test image, fold and seed: label, probability, group, fold; seed where there are several,
            and dice and iou for metrics of masks.
        threshold: From which probability on the label is malignant; one, or one a row.
        resamples: How many.
        seed: Of the draw.

    Raises:
        EvaluationError: There are no rows, or they cannot be measured.
    """
    known = METRICS.get_known(metric)
    parts = _fold_parts(known, frame, threshold, resamples, seed)
    means = [part.mean() for part in parts]
    estimate = float(np.mean(np.concatenate([part.values for part in parts])))
    problem = next((part.problem for part in parts if part.problem), "")
    if problem or math.isnan(estimate):
        return FoldInterval(estimate, math.nan, math.nan, problem or "a fold has no value", 0)
    sampling = np.array([part.sampling() for part in parts])
    images, degrees = sampling.sum() / len(parts) ** 2, sum(part.groups - 1 for part in parts)
    trainings, why = _between(parts, np.array(means), sampling)
    variance = images + trainings[0]
    if variance > 0:
        degrees = variance**2 / (images**2 / degrees + (trainings[0] ** 2 / trainings[1] if trainings[0] else 0))
    low, high = _ends(known, estimate, variance, degrees, min(part.rarer for part in parts) * len(parts))
    valid = min(part.valid for part in parts)
    return FoldInterval(estimate, low, high, f"groups drawn in {_counted(len(parts), 'fold')}{why}", valid)


def subset_interval(
    metric: str, frame: pd.DataFrame, threshold: npt.ArrayLike = 0.5, resamples: int = 2000, seed: int = 0
) -> FoldInterval:
    """A metric over pooled test predictions, such as those of a subgroup, with its 95 % interval.

    Leakage groups are drawn from all rows. The interval covers which images were collected, not how trainings differ.

    Args:
        metric: A name in `METRICS`.
        frame: A row a prediction: label, probability, group; dice and iou for metrics of masks.
        threshold: From which probability on the label is malignant; one, or one a row.
        resamples: How many.
        seed: Of the draw.

    Returns:
        Estimate NaN where the metric needs a class that is not there.
    """
    known = METRICS.get_known(metric)
    cut = np.broadcast_to(np.asarray(threshold, dtype=np.float64), len(frame))
    part = _part(known, [frame], [cut], resamples, seed, 0)
    estimate = float(part.values[0])
    if part.problem or math.isnan(estimate):
        return FoldInterval(estimate, math.nan, math.nan, part.problem or "one class only", 0)
    low, high = _ends(known, estimate, part.sampling(), part.groups - 1, part.rarer)
    return FoldInterval(estimate, low, high, "groups drawn from all images; trainings as they are", part.valid)


@dataclass(frozen=True)
class _Part:
    """A metric on one test part: its value with each seed, (S,), and of each resample, (S, resamples)."""

    values: Array
    drawn: Array
    groups: int
    rarer: int
    problem: str

    @property
    def valid(self) -> int:
        return int((~np.isnan(self.drawn).any(axis=0)).sum())

    def mean(self) -> float:
        return float(self.values.mean())

    def sampling(self) -> float:
        """Variance of the mean over seeds by which groups were drawn; a bootstrap's is too small by one group."""
        return float(np.nanvar(self.drawn.mean(axis=0), ddof=1)) * self.groups / (self.groups - 1)

    def between_seeds(self) -> float:
        """Variance between seeds that the images do not explain, not below 0 only on average."""
        deviations = self.drawn - self.drawn.mean(axis=0)
        seeds = self.values.size
        noise = np.nanvar(deviations, axis=1, ddof=1).sum() / (seeds - 1) * self.groups / (self.groups - 1)
        return float(self.values.var(ddof=1) - noise)


def _fold_parts(
    metric: Metric, frame: pd.DataFrame, threshold: npt.ArrayLike, resamples: int, seed: int
) -> list[_Part]:
    if frame.empty:
        raise EvaluationError("there are no predictions to evaluate: train the row's folds first (`dvc repro`).")
    cut = np.broadcast_to(np.asarray(threshold, dtype=np.float64), len(frame))
    folds = frame["fold"].to_numpy()
    seeds = frame["seed"].to_numpy() if "seed" in frame.columns else np.zeros(len(frame))
    parts = []
    for stream, fold in enumerate(np.unique(folds)):
        rows = [np.flatnonzero((folds == fold) & (seeds == each)) for each in np.unique(seeds[folds == fold])]
        parts.append(
            _part(metric, [frame.iloc[each] for each in rows], [cut[each] for each in rows], resamples, seed, stream)
        )
    return parts


def _part(
    metric: Metric, cells: list[pd.DataFrame], thresholds: list[Array], resamples: int, seed: int, stream: int
) -> _Part:
    groups = [cell["group"].to_numpy() for cell in cells]
    rarer = max(1, min(cell.loc[cell["label"] == label, "group"].nunique() for cell in cells for label in (0, 1)))
    each = list(zip(cells, thresholds, strict=True))
    values = np.concatenate([_values(metric, cell, GroupWeights.identity(len(cell)), cut) for cell, cut in each])
    count = len(np.unique(np.concatenate(groups).astype(str)))
    if count < 2:
        return _Part(values, np.full((len(cells), 1), np.nan), count, rarer, "a part has one group only")
    weights = shared_weights(groups, resamples, seed, stream)
    drawn = np.stack([_values(metric, cell, own, cut) for (cell, cut), own in zip(each, weights, strict=True)])
    lacking = np.isnan(drawn).any(axis=0).mean()
    problem = "too few groups of a class" if lacking > LARGEST_DEGENERATE_SHARE else ""
    return _Part(values, drawn, count, rarer, problem)


def _values(metric: Metric, cell: pd.DataFrame, weights: GroupWeights, threshold: Array) -> npt.NDArray[np.float64]:
    if metric.of_masks:
        return metric.of_overlaps(cell[metric.name].to_numpy(dtype=np.float64), weights)
    labels, probabilities = cell["label"].to_numpy(), cell["probability"].to_numpy()
    return metric.resampled(labels.astype(np.int64), probabilities, weights, threshold)


def _between(parts: list[_Part], means: Array, sampling: Array) -> tuple[tuple[float, float], str]:
    """Variance of the mean by how trainings differ, its degrees of freedom, and what that rests on, in words."""
    found = [(0.0, 1.0)]
    why = []
    if len(parts) > 1:
        found.append((float(means.var(ddof=1) - sampling.mean()) / len(parts), len(parts) - 1.0))
        why.append("folds")
    several = [part for part in parts if part.values.size > 1]
    if several:
        within = float(np.mean([part.between_seeds() for part in several]))
        trained = sum(part.values.size for part in parts)
        found.append((within / trained, float(sum(part.values.size - 1 for part in several))))
        why.append("seeds")
    words = f", and the variance between {' and '.join(why)}" if why else "; one training: its variance is not known"
    return max(found), words


def _ends(metric: Metric, estimate: float, variance: float, degrees: float, groups: int) -> tuple[float, float]:
    """Ends of the 95 % interval; at 0 and 1, where nothing varies, those of Wilson for this number of groups."""
    from scipy import stats

    reach = float(stats.t.ppf(0.975, degrees))
    if metric.scale == "identity":
        return estimate - reach * math.sqrt(variance), estimate + reach * math.sqrt(variance)
    if estimate <= 0 or estimate >= 1:
        edge = groups / (groups + reach**2)
        return (edge, 1.0) if estimate >= 1 else (0.0, 1 - edge)
    centre = math.log(estimate / (1 - estimate))
    reach *= math.sqrt(variance) / (estimate * (1 - estimate))
    low, high = (1 / (1 + math.exp(-max(-700.0, min(700.0, end)))) for end in (centre - reach, centre + reach))
    return low, high


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
