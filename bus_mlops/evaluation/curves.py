"""Curves of the headline rows, with intervals: `decision_curve.csv`, `reliability.csv` and `scores.csv`.

All are of pooled out-of-fold test predictions; whole leakage groups are drawn, one draw for all numbers of a row. They
cover which cases were collected, not how trainings differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.intervals import opened
from bus_mlops.evaluation.resampling import GroupWeights, group_weights
from bus_mlops.evaluation.results import PlannedRow, split_rows
from bus_mlops.evaluation.tidy import Evaluated

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

# The strategies whose rows are candidates; with the others a page would have a hundred curves.
STRATEGIES = ("approaches", "tuned")
# Fixed, so that a table depends on predictions alone.
RESAMPLES = 2000
SEED = 0
THRESHOLDS = np.arange(1, 100) / 100
RELIABILITY_BINS = 10
SCORE_BINS = 20
MODEL, TREAT_ALL, TREAT_NONE = "model", "treat all", "treat none"

_TAIL = (0.025, 0.975)
_VALUE = ("metric", "estimate", "low", "high", "method")
_BOOTSTRAP = "percentiles over draws of leakage groups; trainings as they are"
_OF_SHARES = f"{_BOOTSTRAP}; of 0 and 1 Wilson's end"
_ONE_GROUP = "one leakage group: no interval"


def decision_curve(evaluated: Evaluated) -> pd.DataFrame:
    """Net benefit of each row at probability thresholds from .01 to .99, and of treating all images and none.

    At threshold t it is TP/n - FP/n x t/(1 - t): the share of true positives, less the false ones at the price that t
    sets (Vickers and Elkin, Medical Decision Making 26, 2006). Probabilities are taken as the networks give them.
    """
    return _table(evaluated, ("what", "threshold"), _net_benefits)


def reliability(evaluated: Evaluated) -> pd.DataFrame:
    """What share of the images is malignant, in at most ten bins of equal counts of the predicted probability.

    `observed` is that share of each bin with its bootstrap interval; `from_consistent` to `to_consistent` is where 95 %
    of such shares would lie if the probabilities were right, by drawing labels from them (Broecker and Smith, Weather
    and Forecasting 22, 2007), one draw for the images of a group. Equal probabilities are in one bin. Without a bin:
    `calibration_error`, the mean distance of share and probability over the images; `calibration_error_if_right`,
    what it would be on average if the probabilities were right, and within which bounds: above 0, since shares of few
    images are noisy; and their difference, `excess_calibration_error`.
    """
    columns = ("bin", "from_probability", "to_probability", "mean_probability", "images")
    return _table(evaluated, (*columns, "from_consistent", "to_consistent"), _reliabilities)


def scores(evaluated: Evaluated) -> pd.DataFrame:
    """The predicted probabilities of each class: the share of its images in each of twenty bins of equal width."""
    return _table(evaluated, ("label", "from_probability", "to_probability"), _shares)


def net_benefit(labels: Array, probabilities: Array, weights: GroupWeights, thresholds: Array) -> Array:
    """Net benefit of each resample at each threshold, (resamples, thresholds); an image at the threshold is treated."""
    treated = probabilities[:, None] >= thresholds
    gain = np.where(labels[:, None] == 1, 1.0, -thresholds / (1 - thresholds)) * treated
    return _group_sums(gain, weights) / _sizes(weights)[:, None]


def equal_count_bins(probabilities: Array, most: int) -> Array:
    """The bin of each image, (N,), from 0 on without a gap: at most `most`, of equal counts but for ties.

    >>> equal_count_bins(np.array([0.1, 0.2, 0.3, 0.4]), 2).tolist(), equal_count_bins(np.full(3, 0.5), 2).tolist()
    ([0, 0, 1, 1], [0, 0, 0])
    """
    ranks = np.searchsorted(np.sort(probabilities), probabilities)
    return np.unique(ranks * most // probabilities.size, return_inverse=True)[1]


def _table(evaluated: Evaluated, columns: tuple[str, ...], lines: Any) -> pd.DataFrame:
    import pandas as pd

    records = [
        {**{name: getattr(row, name) for name in ROW}, **line}
        for row, part in _shown(evaluated)
        for line in lines(part["label"].to_numpy(), part["probability"].to_numpy(), part["group"].to_numpy())
    ]
    return pd.DataFrame.from_records(records, columns=[*ROW, *columns, *_VALUE])


def _shown(evaluated: Evaluated) -> Iterator[tuple[PlannedRow, pd.DataFrame]]:
    """Headline rows that classify, of the strategies that are drawn, with their test predictions."""
    for strategy, rows in evaluated.plans.items():
        if strategy.startswith(STRATEGIES):
            select = split_rows(evaluated.predictions[strategy])
            for row in rows:
                if row.headline and row.classifies:
                    yield row, select(row)


def _net_benefits(labels: Array, probabilities: Array, groups: Array) -> Iterator[dict[str, Any]]:
    for what, called in ((MODEL, probabilities), (TREAT_ALL, np.ones(labels.size))):
        estimate, low, high = _interval(labels, called, groups, THRESHOLDS)
        for number, threshold in enumerate(THRESHOLDS):
            yield {
                **{"what": what, "threshold": threshold, "metric": "net_benefit", "method": _method(groups)},
                **{"estimate": estimate[number], "low": low[number], "high": high[number]},
            }
    for threshold in THRESHOLDS:
        values = dict.fromkeys(("estimate", "low", "high"), 0.0)
        yield {"what": TREAT_NONE, "threshold": threshold, "metric": "net_benefit", **values, "method": "always 0"}


def _interval(labels: Array, probabilities: Array, groups: Array, thresholds: Array) -> tuple[Array, Array, Array]:
    drawn = net_benefit(labels, probabilities, _draw(groups), thresholds)
    estimate = net_benefit(labels, probabilities, GroupWeights.identity(labels.size), thresholds)[0]
    return estimate, *_ends(drawn)


def _reliabilities(labels: Array, probabilities: Array, groups: Array) -> Iterator[dict[str, Any]]:
    bins = equal_count_bins(probabilities, RELIABILITY_BINS)
    inside = np.eye(bins.max() + 1)[bins]
    counts = inside.sum(axis=0)
    mean = probabilities @ inside / counts
    weights = _draw(groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = _group_sums(inside * labels[:, None], weights) / _group_sums(inside, weights)
    observed = labels @ inside / counts
    low, high = _opened(observed, _ends(drawn), [np.unique(groups[bins == each]).size for each in range(counts.size)])
    right = _if_right(probabilities, weights.member, inside) / counts
    from_consistent, to_consistent = np.quantile(right, _TAIL, axis=0)
    for number in range(counts.size):
        own = probabilities[bins == number]
        yield {
            **{"bin": number + 1, "from_probability": own.min(), "to_probability": own.max()},
            **{"mean_probability": mean[number], "images": int(counts[number])},
            **{"from_consistent": from_consistent[number], "to_consistent": to_consistent[number]},
            **{"metric": "observed", "estimate": observed[number], "low": low[number], "high": high[number]},
            "method": _method(groups, _OF_SHARES),
        }
    errors = np.abs(right - mean) @ counts / labels.size
    error, chance = float(np.abs(observed - mean) @ counts / labels.size), float(errors.mean())
    unknown = (float("nan"), float("nan"))
    for metric, estimate, ends, method in (
        ("calibration_error", error, unknown, "above 0 even if the probabilities are right: see the excess"),
        (
            "calibration_error_if_right",
            chance,
            np.quantile(errors, _TAIL),
            "labels drawn from the probabilities, by group",
        ),
        ("excess_calibration_error", error - chance, unknown, "the error less what it would be if they were right"),
    ):
        values = {"metric": metric, "estimate": estimate, "low": ends[0], "high": ends[1], "method": method}
        yield {"images": labels.size, **values}


def _if_right(probabilities: Array, member: Array, inside: Array) -> Array:
    """Malignant images in each bin of each of `RESAMPLES` worlds in which the probabilities are right, (R, bins).

    The images of a group share their number: what is malignant with one of them is with one that is more probable.
    """
    rng = np.random.default_rng(SEED)
    found = np.empty((RESAMPLES, inside.shape[1]))
    for number in range(RESAMPLES):
        luck = rng.random(member.max() + 1)
        found[number] = (luck[member] < probabilities) @ inside
    return found


def _shares(labels: Array, probabilities: Array, groups: Array) -> Iterator[dict[str, Any]]:
    edges = np.arange(SCORE_BINS + 1) / SCORE_BINS
    bins = np.minimum(np.searchsorted(edges, probabilities, side="right") - 1, SCORE_BINS - 1)
    inside = np.eye(SCORE_BINS)[bins]
    weights = _draw(groups)
    for label, name in enumerate(("benign", "malignant")):
        own = (labels == label).astype(float)
        if not own.any():
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = _group_sums(inside * own[:, None], weights) / _group_sums(own[:, None], weights)
        estimate = own @ inside / own.sum()
        low, high = _opened(estimate, _ends(drawn), [np.unique(groups[labels == label]).size] * SCORE_BINS)
        for number in range(SCORE_BINS):
            yield {
                **{"label": name, "from_probability": edges[number], "to_probability": edges[number + 1]},
                **{"metric": "share", "estimate": estimate[number], "low": low[number], "high": high[number]},
                "method": _method(groups, _OF_SHARES),
            }


def _method(groups: Array, several: str = _BOOTSTRAP) -> str:
    return several if np.unique(groups).size > 1 else _ONE_GROUP


def _draw(groups: Array) -> GroupWeights:
    if np.unique(groups).size > 1:
        return group_weights(groups, RESAMPLES, SEED)
    return GroupWeights(np.ones((1, 1)), np.zeros(groups.size, np.int64))


def _ends(drawn: Array) -> Array:
    """Both ends of the 95 % interval of (resamples, K) values, (2, K); NaN of a single draw."""
    return np.nanquantile(drawn, _TAIL, axis=0) if len(drawn) > 1 else np.full((2, drawn.shape[1]), np.nan)


def _opened(shares: Array, ends: Array, groups: Sequence[int]) -> Array:
    """The ends of intervals of shares, each of so many groups; of 0 and 1, which no resample widens, with Wilson's."""
    low, high = ends
    found = [opened(*each) for each in zip(shares, low, high, groups, strict=True)]
    return np.array(found).T


def _group_sums(values: Array, weights: GroupWeights) -> Array:
    """The sums of (N, K) values over the images of each resample, (resamples, K)."""
    order = np.argsort(weights.member, kind="stable")
    starts = np.searchsorted(weights.member[order], np.arange(weights.counts.shape[1]))
    return np.asarray(weights.counts @ np.add.reduceat(values[order], starts))


def _sizes(weights: GroupWeights) -> Array:
    return np.asarray(weights.counts @ np.bincount(weights.member, minlength=weights.counts.shape[1]))
