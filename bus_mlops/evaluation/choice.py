"""The rule by which one of several trials is chosen: another replaces the first only if it is better beyond noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metric import Metric, validated
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import GroupWeights

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

# Fixed, so that a choice depends on predictions alone.
RESAMPLES = 2000
SEED = 0
# With fewer resamples of both classes a standard error would say nothing.
FEWEST_RESAMPLES = 100


@dataclass(frozen=True)
class Candidate:
    """One set of parameters that may be chosen.

    Attributes:
        number: Of the trial, or whatever the caller knows it by.
        value: The mean of the objective (fraction) over the steps, see `mean_value`.
        validation: The validation predictions of each step (an inner fold, a fold, a seed): label (0 or 1),
            probability (0-1) and leakage group, the same images in the same order for all candidates.
    """

    number: int
    parameters: Mapping[str, Any]
    value: float
    validation: Sequence[pd.DataFrame]


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and against what.

    Attributes:
        number: Of the chosen candidate.
        best: Of the one with the best value, which may be another.
        difference: Of the best candidate to the first (fraction), never negative: in favour of the best.
        standard_error: Of that difference; 0 when the best is the first, infinite when it cannot be told.
        reason: Why this candidate, in words.
    """

    number: int
    best: int
    difference: float
    standard_error: float
    reason: str


def mean_value(validation: Sequence[pd.DataFrame], objective: str) -> float:
    """The mean of a metric of probabilities (fraction, at threshold 0.5) over the steps.

    Raises:
        EvaluationError: The metric is unknown or one of masks, or a step cannot be measured.
    """
    metric = _metric(objective)
    return float(np.mean([metric.value(step["label"], step["probability"]) for step in validation]))


def choose(candidates: Sequence[Candidate], objective: str, standard_errors: float) -> Chosen:
    """The first candidate, unless the best of the others beats it by more than `standard_errors` of the difference.

    The first one is the paper's. Equal values: the earliest. The standard error is that of the paired difference
    between the best candidate and the first, from a bootstrap over leakage groups: both get the same resamples; a
    group that lies in several steps (the seeds of a fold) is drawn once for all of them; groups that lie in the same
    steps are drawn among each other. It carries the chance of which cases lie in the validation parts, not that of a
    training, nor that the best of many was looked for.

    Args:
        candidates: Complete ones, the incumbent first.
        objective: A name in `METRICS`; its direction says what is better.
        standard_errors: 0 takes the best value, whatever the noise.

    Raises:
        EvaluationError: There is none, or their steps are not of the same images.
    """
    if not candidates:
        raise EvaluationError("there is no complete trial to choose from: see why they failed, and run again.")
    metric = _metric(objective)
    first = candidates[0]
    best = max(candidates, key=lambda each: metric.direction * each.value)  # the earliest of equals
    difference = metric.direction * (best.value - first.value)
    if best is first or difference <= 0:
        reason = f"the first, which no other beats in {metric.heading} ({metric.format(first.value)})"
        return Chosen(first.number, first.number, 0.0, 0.0, reason)
    error = difference_error(first, best, metric)
    replaced = standard_errors == 0 or difference > standard_errors * error
    reason = _reason(metric, first, best, difference, error, standard_errors, replaced)
    return Chosen(best.number if replaced else first.number, best.number, difference, error, reason)


def difference_error(first: Candidate, other: Candidate, metric: Metric) -> float:
    """The standard error of the difference between two candidates' values; infinite if it cannot be told.

    Raises:
        EvaluationError: Their steps are not of the same images.
    """
    steps = _paired(first, other)
    values = np.zeros(RESAMPLES)
    for (labels, of_first, of_other), weights in zip(steps, _draws(first.validation), strict=True):
        drawn = [metric.resampled(labels, each, weights, 0.5) for each in (of_first, of_other)]
        malignant = weights.counts @ np.bincount(weights.member, labels, minlength=weights.counts.shape[1])
        images = weights.counts @ np.bincount(weights.member, minlength=weights.counts.shape[1])
        both = (malignant > 0) & (malignant < images)
        values += np.where(both, drawn[1] - drawn[0], np.nan) / len(steps)
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if known.size >= FEWEST_RESAMPLES else float("inf")


def _metric(name: str) -> Metric:
    metric = METRICS.get_known(name)
    if metric.of_masks:
        raise EvaluationError(f"nothing can be chosen by {name!r}, a metric of masks: name one of probabilities.")
    return metric


def _paired(first: Candidate, other: Candidate) -> list[tuple[Array, Array, Array]]:
    """Labels, and the probabilities of both, of each step."""
    if len(first.validation) != len(other.validation) or not first.validation:
        raise EvaluationError(
            f"trial {other.number} has {len(other.validation)} steps but the first, {first.number}, has "
            f"{len(first.validation)}: only trials that were trained on all steps can be chosen."
        )
    steps = []
    for number, (a, b) in enumerate(zip(first.validation, other.validation, strict=True), 1):
        same = len(a) == len(b) and all(
            (a[name].to_numpy() == b[name].to_numpy()).all()
            for name in ("image_id", "label", "group")
            if name in a.columns and name in b.columns
        )
        if not same:
            raise EvaluationError(
                f"step {number} of trial {other.number} was validated on other images than that of trial "
                f"{first.number}: what divides the images cannot be searched."
            )
        labels, of_first = validated(a["label"], a["probability"])
        steps.append((labels, of_first, validated(b["label"], b["probability"])[1]))
    return steps


def _draws(validation: Sequence[pd.DataFrame]) -> list[GroupWeights]:
    """For each step how often each of its groups was drawn; groups of the same steps are drawn among each other."""
    of_step = [np.unique(step["group"].to_numpy().astype(str), return_inverse=True) for step in validation]
    names = np.unique(np.concatenate([groups for groups, _ in of_step]))
    where = [np.searchsorted(names, groups) for groups, _ in of_step]
    within = np.zeros((names.size, len(of_step)), dtype=bool)
    for step, place in enumerate(where):
        within[place, step] = True
    rng = np.random.default_rng(SEED)
    counts = np.ones((RESAMPLES, names.size))
    stratum = np.unique(within, axis=0, return_inverse=True)[1].ravel()
    stratum[np.bincount(stratum)[stratum] == 1] = -1  # alone it would never vary
    for each in np.unique(stratum):
        place = np.flatnonzero(stratum == each)
        counts[:, place] = rng.multinomial(place.size, np.full(place.size, 1 / place.size), size=RESAMPLES)
    return [GroupWeights(counts[:, place], member) for place, (_, member) in zip(where, of_step, strict=True)]


def _reason(
    metric: Metric,
    first: Candidate,
    best: Candidate,
    difference: float,
    error: float,
    standard_errors: float,
    replaced: bool,
) -> str:
    compared = (
        f"{metric.heading} {metric.format(best.value)} of trial {best.number} against {metric.format(first.value)} of "
        f"the first"
    )
    if standard_errors == 0:
        return f"the best value: {compared}"
    if np.isinf(error):
        return f"the first: the validation parts are too small to tell ({compared})"
    limit = f"{standard_errors:g} x the standard error of {error:.4f}"
    if replaced:
        return f"better by {difference:.4f}, more than {limit}: {compared}"
    return f"the first: another is better by {difference:.4f}, not more than {limit} ({compared})"
