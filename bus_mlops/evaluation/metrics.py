"""The table of metrics: the paper's seven under their right names, ranking, calibration, overlap of masks, and yours.

Everything that computes, stores, prints or judges by a metric reads `METRICS`; docs/how-to/add-a-metric.md adds to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.calibration import (
    calibration_error,
    calibration_excess,
    calibration_intercept,
    calibration_slope,
)
from bus_mlops.evaluation.metric import Compute, ComputeRate, Metric, Resample, validated
from bus_mlops.evaluation.ranking import average_precision, sensitivity_at_specificity, specificity_at_sensitivity
from bus_mlops.evaluation.resampling import GroupWeights
from bus_mlops.evaluation.roc import resampled_roc_auc, weighted_roc_auc
from bus_mlops.registries import Registry

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])
Unit = Literal["percent", "fraction"]
Direction = Literal[1, -1, 0]
Scale = Literal["logit", "identity"]

METRICS: Registry[Metric] = Registry("metric", EvaluationError)

# What stands beside metrics: in predictions, curves and tables, among a run's metrics, in metrics.json.
RESERVED_NAMES = frozenset(
    {
        *("strategy", "model", "variant", "network", "fingerprint", "seed", "fold", "part", "image_id", "case_id"),
        *("group", "source", "label", "probability", "epoch", "loss", "validation_loss", "validation_roc_auc"),
        *("images", "cases", "groups", "leaks", "validation_leaks", "incomplete"),
        *("seconds", "seconds_training", "images_per_second", "best_epoch", "epochs_trained"),
    }
)
# What tables and runs put before or behind the name of a metric.
RESERVED_PREFIXES = ("validation_", "paper_", "difference_")
RESERVED_SUFFIXES = ("_mean", "_std", "_pooled", "_low", "_high")  # with them: `_pooled_low`, `_pooled_high`

# What a metric is tried on when it is registered: one image of each outcome.
_LABELS, _PROBABILITIES = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])


def metric(
    *,
    heading: str,
    unit: Unit = "fraction",
    direction: Direction = 1,
    interval: bool = False,
    scale: Scale = "identity",
) -> Callable[[Function], Function]:
    """Register the decorated function as the metric of its name; the arguments are `Metric`'s.

    The function is called with `labels` (N,), 0 benign or 1 malignant, both of which occur, `probabilities` (N,) of
    malignancy (0-1), and `threshold` (0-1), a number or one for each image; an image is called malignant when its
    probability reaches it. It returns a number; a share is a fraction. Intervals call it once a resample.

    Raises:
        EvaluationError: The function does not work, or the name is taken or reserved.
    """
    fields = {"heading": heading, "unit": unit, "direction": direction, "interval": interval, "scale": scale}
    return lambda function: _register(function, function, None, fields)


def rate_metric(
    *,
    heading: str,
    unit: Unit = "percent",
    direction: Direction = 1,
    interval: bool = True,
    scale: Scale = "identity",
    phrase: str = "",
    paper: str = "",
) -> Callable[[Function], Function]:
    """`metric` for one that follows from the confusion matrix, whose intervals are then computed at once.

    The function is called with arrays of one shape: the counts of true negatives, false positives, false negatives
    and true positives. It returns an array of that shape, NaN where a class is absent that it needs. `paper` is for
    the seven of this module.
    """
    fields = {"heading": heading, "unit": unit, "direction": direction, "interval": interval, "scale": scale}
    return lambda function: _register(
        function, _of_images(function), _of_resamples(function), fields | {"phrase": phrase, "paper": paper}
    )


def _register(function: Function, compute: Compute, resample: Resample | None, fields: dict[str, Any]) -> Function:
    _check_name(function.__name__)
    new = Metric(function.__name__, compute=compute, resample=resample, **fields)
    if new.paper and function.__module__ != __name__:
        raise EvaluationError(f"metric {new.name!r} has paper={new.paper!r}, but the paper prints no metric but ours.")
    new.value(_LABELS, _PROBABILITIES)
    METRICS.add(new.name, new, function.__module__)
    return function


def _check_name(name: str) -> None:
    if name in RESERVED_NAMES:
        what = "is the name of something else in predictions, tables or runs"
    elif name.startswith(RESERVED_PREFIXES):
        prefix = next(each for each in RESERVED_PREFIXES if name.startswith(each))
        what = f"begins with {prefix!r}, which tables and runs put before the name of a metric"
    elif name.endswith(RESERVED_SUFFIXES):
        suffix = next(each for each in RESERVED_SUFFIXES if name.endswith(each))
        what = f"ends in {suffix!r}, which tables and runs put behind the name of a metric"
    else:
        return
    raise EvaluationError(f"metric {name!r} {what}: rename its function.")


def confusion(labels: Array, predicted: Array) -> tuple[Array, Array, Array, Array]:
    """Counts of true negatives, false positives, false negatives, true positives; inputs are 0/1, (N,)."""
    truth, call = labels.astype(bool), predicted.astype(bool)
    tn, fp, fn, tp = (np.asarray(cell.sum()) for cell in (~truth & ~call, ~truth & call, truth & ~call, truth & call))
    return tn, fp, fn, tp


def _of_images(rate: ComputeRate) -> Compute:
    def compute(labels: Array, probabilities: Array, threshold: Array) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return rate(*confusion(labels, probabilities >= threshold))

    return compute


def _of_resamples(rate: ComputeRate) -> Resample:
    def resample(labels: Array, probabilities: Array, weights: GroupWeights, threshold: Any) -> Array:
        predicted = probabilities >= np.asarray(threshold, dtype=np.float64)
        cells = [(labels == t) & (predicted == c) for t in (0, 1) for c in (False, True)]
        sums = [weights.totals(cell) for cell in cells]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(rate(*sums), dtype=np.float64)

    return resample


def _share(part: Array, whole: Array) -> npt.NDArray[np.float64]:
    return np.asarray(part / np.asarray(whole, dtype=np.float64), dtype=np.float64)


@rate_metric(heading="Accuracy", scale="logit", paper="accuracy", phrase="accuracy")
def accuracy(tn: Array, fp: Array, fn: Array, tp: Array) -> Array:
    """The share of images that are called right."""
    return _share(tp + tn, tp + tn + fp + fn)


@rate_metric(heading="Sensitivity", scale="logit", paper="sensitivity", phrase="sensitivity")
def sensitivity(tn: Array, fp: Array, fn: Array, tp: Array) -> Array:
    """TP / (TP + FN): the share of malignant images that are called malignant."""
    return _share(tp, tp + fn)


@rate_metric(heading="Specificity", scale="logit", paper="specificity", phrase="specificity")
def specificity(tn: Array, fp: Array, fn: Array, tp: Array) -> Array:
    """TN / (TN + FP): the share of benign images that are called benign."""
    return _share(tn, tn + fp)


@rate_metric(heading="F1", unit="fraction", scale="logit", paper="F1", phrase="F1")
def f1(tn: Array, fp: Array, fn: Array, tp: Array) -> Array:
    """2 TP / (2 TP + FP + FN)."""
    return _share(2 * tp, 2 * tp + fp + fn)


@rate_metric(heading="Balanced accuracy", scale="logit", paper="AUC", phrase="balanced accuracy")
def balanced_accuracy(tn: Array, fp: Array, fn: Array, tp: Array) -> Array:
    """The mean of sensitivity and specificity: what the paper prints as "AUC" (83 of its 84 rows)."""
    return (sensitivity(tn, fp, fn, tp) + specificity(tn, fp, fn, tp)) / 2


@rate_metric(heading="FPR", direction=-1, scale="logit", paper="FPR", phrase="the false positive rate")
def false_positive_rate(tn: Array, fp: Array, fn: Array, tp: Array) -> Array:
    """1 - specificity."""
    return 1 - specificity(tn, fp, fn, tp)


@rate_metric(heading="FNR", direction=-1, scale="logit", paper="FNR", phrase="the false negative rate")
def false_negative_rate(tn: Array, fp: Array, fn: Array, tp: Array) -> Array:
    """1 - sensitivity."""
    return 1 - sensitivity(tn, fp, fn, tp)


def _roc_auc(labels: Array, probabilities: Array, threshold: Array) -> Any:
    return weighted_roc_auc(labels, probabilities, np.ones((1, labels.size)))[0]


def _resampled_roc_auc(labels: Array, probabilities: Array, weights: GroupWeights, threshold: Any) -> Array:
    return resampled_roc_auc(labels, probabilities, weights)


def _brier(labels: Array, probabilities: Array, threshold: Array) -> Any:
    return np.mean((probabilities - labels) ** 2)


def _resampled_brier(labels: Array, probabilities: Array, weights: GroupWeights, threshold: Any) -> Array:
    errors = (probabilities - labels) ** 2
    return np.asarray(weights.totals(errors) / weights.totals(np.ones(errors.size)))


def _without_threshold(
    name: str, heading: str, resampled: Callable[[Array, Array, GroupWeights], Array], **fields: Any
) -> Metric:
    """A metric that one function computes of all images and of resamples, whatever the threshold."""

    def compute(labels: Array, probabilities: Array, threshold: Array) -> Any:
        return resampled(labels, probabilities, GroupWeights.identity(labels.size))[0]

    def resample(labels: Array, probabilities: Array, weights: GroupWeights, threshold: Any) -> Array:
        return resampled(labels, probabilities, weights)

    return Metric(name, heading, interval=True, further=True, compute=compute, resample=resample, **fields)


_AREA: dict[str, Any] = {"interval": True, "phrase": "ROC AUC", "scale": "logit"}
_BRIER: dict[str, Any] = {"direction": -1, "interval": True, "further": True, "scale": "logit"}
_OVERLAP: dict[str, Any] = {"unit": "percent", "interval": True, "scale": "logit"}

for _metric in (
    Metric("roc_auc", "ROC AUC", compute=_roc_auc, resample=_resampled_roc_auc, **_AREA),
    _without_threshold("average_precision", "Average precision", average_precision, scale="logit"),
    _without_threshold(
        "sensitivity_at_specificity_90",
        "Sensitivity at specificity 90 %",
        sensitivity_at_specificity,
        unit="percent",
        scale="logit",
    ),
    _without_threshold(
        "specificity_at_sensitivity_90",
        "Specificity at sensitivity 90 %",
        specificity_at_sensitivity,
        unit="percent",
        scale="logit",
    ),
    Metric("brier", "Brier score", compute=_brier, resample=_resampled_brier, **_BRIER),
    _without_threshold("calibration_error", "ECE", calibration_error, direction=-1, scale="logit"),
    _without_threshold("calibration_excess", "ECE excess", calibration_excess, direction=-1),
    _without_threshold(
        "calibration_slope",
        "Calibration slope",
        calibration_slope,
        direction=0,
        undefined="whose probabilities hardly differ, so that it cannot be estimated",
    ),
    _without_threshold("calibration_intercept", "Calibration intercept", calibration_intercept, direction=0),
    Metric("dice", "Dice", **_OVERLAP),
    Metric("iou", "IoU", **_OVERLAP),
    Metric("hd95", "HD95 / side", unit="percent", direction=-1, interval=True),
    Metric("nsd", "NSD", **_OVERLAP),
):
    METRICS.add(_metric.name, _metric, __name__)

PAPER_METRICS = tuple(each.name for each in METRICS.values() if each.paper)


def probability_metrics() -> tuple[str, ...]:
    """Names of the metrics that are computed from labels and probabilities, the paper's seven first."""
    return tuple(name for name, each in METRICS.items() if not each.of_masks)


def judging_metrics() -> tuple[str, ...]:
    """Names of those of `probability_metrics` by which a search may choose and the gate may judge."""
    return tuple(name for name in probability_metrics() if METRICS[name].direction)


def mask_metrics() -> tuple[str, ...]:
    """Names of the metrics that are columns of the predictions of a network that draws masks."""
    return tuple(name for name, each in METRICS.items() if each.of_masks)


def interval_metrics() -> tuple[str, ...]:
    """Names of the metrics whose interval the tables give."""
    return tuple(name for name, each in METRICS.items() if each.interval)


def classification_metrics(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: npt.ArrayLike = 0.5
) -> dict[str, float]:
    """All `probability_metrics` of one set of images, shares as fractions between 0 and 1.

    `balanced_accuracy` is what the paper prints as "AUC"; `roc_auc` is the area under the ROC curve. NaN where a metric
    is undefined for these images.

    Args:
        labels: (N,), 0 benign or 1 malignant.
        probabilities: Of malignancy (N,), 0-1.
        threshold: An image is called malignant when its probability reaches it; a number, or one an image.

    Raises:
        EvaluationError: The inputs are not so, or all of one class.

    Example:
        >>> values = classification_metrics([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> values["accuracy"], values["sensitivity"], values["roc_auc"]
        (0.5, 0.5, 0.75)
    """
    y, p = validated(labels, probabilities)
    cut = np.asarray(threshold, dtype=np.float64)
    return {name: METRICS[name].where_defined(y, p, cut) for name in probability_metrics()}


def mask_overlap(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Array, Array]:
    """Dice and intersection over union (fractions) of each image; (N, S, S) 0/1 masks give two (N,).

    NaN where the truth is empty (no ground truth).

    Raises:
        EvaluationError: The shapes differ.

    Example:
        >>> dice, iou = mask_overlap([[[1, 1], [0, 0]]], [[[1, 0], [0, 0]]])
        >>> round(float(dice[0]), 3), float(iou[0])
        (0.667, 0.5)
    """
    a, b = np.asarray(truth).astype(bool), np.asarray(predicted).astype(bool)
    if a.shape != b.shape or a.ndim != 3:
        raise EvaluationError(f"masks must both be (images, side, side) but are {a.shape} and {b.shape}.")
    both = (a & b).sum(axis=(1, 2)).astype(np.float64)
    sizes = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
    known = a.any(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = np.where(known, 2 * both / sizes, np.nan)
        iou = np.where(known, both / (sizes - both), np.nan)
    return dice, iou


def mean_overlaps(frame: pd.DataFrame) -> dict[str, float]:
    """`mean_overlap` of each of `mask_metrics`; NaN of one that was not computed when the predictions were recorded."""
    return {name: mean_overlap(frame[name]) if name in frame else float("nan") for name in mask_metrics()}


def mean_overlap(values: npt.ArrayLike) -> float:
    """The mean of a metric of masks over the images that have one (fraction); NaN when none has."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")
