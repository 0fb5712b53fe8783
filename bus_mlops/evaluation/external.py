"""Tables on cohorts that no fold touches: metrics at frozen thresholds, from where to where, and what a few cases mend.

A row of a table is many networks. `together`: the mean of their calibrated answers at one threshold, both from
validation parts, as a package would be made of them. `alone`: each at its own calibration and threshold, and the mean
of their metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import Calibration, logit
from bus_mlops.consumer.recalibration import band, draws_of, logistic_fit, smoothed, too_few
from bus_mlops.evaluation.calibration import calibration_error
from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.intervals import FoldDraws, FoldInterval
from bus_mlops.evaluation.resampling import GroupWeights
from bus_mlops.evaluation.subgroups import FEWEST_GROUPS, of_cases

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = (*ROW, "network", "cohort")
COUNTS = ("images", "cases", "groups", "malignant")
INTERVAL = ("metric", "estimate", "low", "high", "method")
METRIC_COLUMNS = (*IDENTITY, "answer", "networks", "threshold", "unit", *COUNTS, *INTERVAL)
MATRIX_COLUMNS = (*ROW, "network", "train", "test", "how", "networks", *COUNTS, *INTERVAL)
RECALIBRATION_COLUMNS = (
    *IDENTITY,
    *("local_cases", "what", "draws", "metric", "median", "low", "high", "note"),
)
TOGETHER, ALONE, SHIPPED = "together", "alone", "shipped"
IMAGE, MAXIMUM, MEAN = "image", "case, maximum", "case, mean"
OUT_OF_FOLD, FROM_OUTSIDE = "out of fold", "external"
FIRST = ("roc_auc", "sensitivity", "specificity")
WHOLE = (
    *FIRST,
    *("balanced_accuracy", "average_precision", "brier", "calibration_error", "calibration_slope"),
    "calibration_intercept",
)
# Of which labels a metric needs groups; any other of both.
_NEEDS: Mapping[str, tuple[int, ...]] = {"sensitivity": (1,), "specificity": (0,)}
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Answered:
    """What a row, or a shipped model, answers for a cohort.

    Attributes:
        names: The values of `ROW` and network.
        together: A row an image: image_id, case_id, group, source, label, probability; the same with each answer.
        threshold: At which `together` is judged.
        alone: A row an image and network (`seed`, its number), with its own threshold; None of a shipped model.
        claimed: Sensitivity and specificity where the threshold comes from, which local thresholds are to keep.
    """

    names: Mapping[str, str]
    cohort: str
    together: pd.DataFrame
    threshold: float
    networks: int
    alone: pd.DataFrame | None = None
    claimed: tuple[float, float] = (0.0, 0.0)

    @property
    def identity(self) -> dict[str, str]:
        """What names it in a table."""
        return {**self.names, "cohort": self.cohort}


def metric_lines(answered: Answered, scanners: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Lines of `METRIC_COLUMNS`: per image, per case (maximum and mean), per scanner where images name one.

    Intervals (95 %) draw whole leakage groups; those of `alone` also cover how the networks differ.

    Args:
        answered: By a row, or a shipped model.
        scanners: image_id -> scanner, of those that have one.
    """
    whole = answered.together.assign(fold=1, seed=0, dice=np.nan)
    answer = SHIPPED if answered.alone is None else TOGETHER
    about = {**answered.identity, "answer": answer, "networks": answered.networks, "threshold": answered.threshold}
    yield from _lines({**about, "unit": IMAGE}, whole, answered.threshold, WHOLE)
    if whole["case_id"].nunique() < len(whole):
        for unit, how in ((MAXIMUM, "maximum"), (MEAN, "mean")):
            yield from _lines({**about, "unit": unit}, of_cases(whole, how), answered.threshold, FIRST)
    scanner = np.array([scanners.get(str(image), "") for image in whole["image_id"]])
    for name in sorted(set(scanner) - {""}):
        yield from _lines({**about, "unit": f"scanner {name}"}, whole[scanner == name], answered.threshold, FIRST)
    if answered.alone is not None:
        own = answered.alone.assign(fold=1)
        yield from _lines({**about, "answer": ALONE, "threshold": np.nan, "unit": IMAGE}, own, own["threshold"], FIRST)


def matrix_lines(about: Mapping[str, Any], frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Lines of `MATRIX_COLUMNS` for networks of one train set on one test set, each network at its own threshold.

    Args:
        about: ROW, network, train, test, how.
        frame: A row an image and network: fold, seed, group, label, probability, threshold.
    """
    networks = len(frame[["fold", "seed"]].drop_duplicates())
    yield from _lines({**about, "networks": networks}, frame, frame["threshold"], FIRST)


def _lines(
    about: Mapping[str, Any], frame: pd.DataFrame, threshold: npt.ArrayLike, metrics: Sequence[str]
) -> Iterator[dict[str, Any]]:
    several = len(frame[["fold", "seed"]].drop_duplicates()) > 1
    malignant = frame["label"] == 1
    counted = {
        "images": frame["image_id"].nunique(),
        "cases": frame["case_id"].nunique(),
        "groups": frame["group"].nunique(),
        "malignant": frame.loc[malignant, "image_id"].nunique(),
    }
    draws: FoldDraws | None = None
    for metric in metrics:
        said = _shortage(metric, frame)
        if said:
            found = FoldInterval(float("nan"), float("nan"), float("nan"), said, 0)
        else:
            draws = draws or FoldDraws.of(frame, threshold)
            found = draws.interval(metric, trainings=several)
        method = found.method.replace("in 1 fold", "from all images").replace("between seeds", "between networks")
        values = {"estimate": found.estimate, "low": found.low, "high": found.high}
        yield {**about, **counted, "metric": metric, **values, "method": method}


def _shortage(metric: str, frame: pd.DataFrame) -> str:
    groups = {label: int(frame.loc[frame["label"] == label, "group"].nunique()) for label in _NEEDS.get(metric, (0, 1))}
    label, count = min(groups.items(), key=lambda each: each[1])
    if count >= FEWEST_GROUPS:
        return ""
    what = "malignant" if label else "benign"
    return f"too small: {count} leakage groups with {what} images, {FEWEST_GROUPS} are needed"


def recalibration_lines(
    answered: Answered, local_cases: Sequence[int], draws: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Lines of `RECALIBRATION_COLUMNS`: before, and after fits to so many local cases, drawn whole again and again.

    Of all cases that were not drawn: how the probabilities do as they are, and after Platt's and temperature scaling;
    sensitivity and specificity at the frozen threshold, and at one that was fitted. `median`, and `low` and `high`,
    between which 95 of 100 draws lie: what those who label so many cases may get. 0 local cases: all, as they are.

    Args:
        answered: By a row, or a shipped model.
        local_cases: How many, each.
        draws: How often each.
        seed: Of the draws.
    """
    frame = answered.together
    labels, answers = frame["label"].to_numpy(np.int64), frame["probability"].to_numpy(np.float64)
    cases = frame["group"].to_numpy(np.str_)
    about = {**answered.identity, "draws": draws, "note": ""}
    for what, metric, value in _values(labels, answers, answered.threshold):
        yield {**about, "local_cases": 0, "draws": 1, "what": what, "metric": metric, "median": value}
    for count in local_cases:
        if why := too_few(labels, cases, count):
            yield {**about, "local_cases": count, "what": AS_IT_IS, "draws": 0, "note": f"not drawn: {why}"}
            continue
        found: dict[tuple[str, str], list[float]] = {}
        for draw in draws_of(labels, answers, cases, count, answered.claimed, draws, seed):
            y, p, fit = labels[draw.rest], answers[draw.rest], draw.fit
            values = [
                *_values(y, p, answered.threshold),
                *(("threshold", metric, value) for _, metric, value in _rates(y, p, fit.threshold)),
                ("threshold", "threshold", fit.threshold),
            ]
            for what, calibration in (("platt", fit.platt), ("temperature", fit.temperature)):
                values += [(what, metric, value) for _, metric, value in _of_probabilities(y, p, calibration)]
            values += [("platt", "slope", fit.platt.slope), ("platt", "intercept", fit.platt.intercept)]
            values.append(("temperature", "temperature", 1 / fit.temperature.slope))
            for what, metric, value in values:
                found.setdefault((what, metric), []).append(value)
        for (what, metric), numbers in found.items():
            middle, low, high = band(numbers)
            own = {"local_cases": count, "what": what, "metric": metric}
            yield {**about, **own, "median": middle, "low": low, "high": high}


def _values(labels: Any, answers: Any, threshold: float) -> list[tuple[str, str, float]]:
    return [*_rates(labels, answers, threshold), *_of_probabilities(labels, answers, Calibration())]


def _rates(labels: Any, answers: Any, threshold: float) -> list[tuple[str, str, float]]:
    called, malignant = answers >= threshold, labels == 1
    values = {"sensitivity": called[malignant].mean(), "specificity": 1 - called[~malignant].mean()}
    return [(AS_IT_IS, name, float(value)) for name, value in values.items()]


def _of_probabilities(labels: Any, answers: Any, calibration: Calibration) -> list[tuple[str, str, float]]:
    """Brier score, ECE, and the line that fits the logits: its slope, and its intercept where the slope is 1.

    The line is fitted with Platt's smoothed labels: Firth's penalty (`calibration_slope`) takes ten times as long.
    """
    told = calibration.apply(answers)
    logits, targets, ones = logit(told), smoothed(labels), np.ones((labels.size, 1))
    slope = logistic_fit(np.column_stack([logits, ones]), np.zeros_like(logits), targets)[0]
    values = {
        "brier": float(np.mean((told - labels) ** 2)),
        "calibration_error": float(calibration_error(labels, told, GroupWeights.identity(labels.size))[0]),
        "calibration_slope": float(slope),
        "calibration_intercept": float(logistic_fit(ones, logits, targets)[0]),
    }
    return [(AS_IT_IS, name, value) for name, value in values.items()]
