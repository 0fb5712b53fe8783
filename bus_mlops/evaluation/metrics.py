"""The paper's seven metrics under their right names, the true ROC area, the Brier score and mask overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError

Array = npt.NDArray[Any]

# In the order of the paper's tables; its "AUC" column is balanced accuracy (83 of its 84 rows).
PAPER_METRICS = (
    "accuracy",
    "sensitivity",
    "specificity",
    "f1",
    "balanced_accuracy",
    "false_positive_rate",
    "false_negative_rate",
)
ALL_METRICS = (*PAPER_METRICS, "roc_auc", "brier")

# A curve of thousands of images has thousands of corners; no screen shows more than these.
MOST_CORNERS = 400


def classification_metrics(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: npt.ArrayLike = 0.5
) -> dict[str, float]:
    """All of `ALL_METRICS` for one set of images, each a fraction between 0 and 1.

    `labels` (N,) is 0 benign or 1 malignant, `probabilities` (N,) is that of malignancy (0-1); an image is
    called malignant when its probability reaches `threshold` (a number, or one an image). `balanced_accuracy`
    is what the paper prints as "AUC"; `roc_auc` is the area under the ROC curve. Raises EvaluationError.

    >>> values = classification_metrics([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
    >>> values["accuracy"], values["sensitivity"], values["roc_auc"]
    (0.5, 0.5, 0.75)
    """
    y, p = validated(labels, probabilities)
    values = rates(*confusion(y, p >= np.asarray(threshold, dtype=np.float64)))
    return {
        **{name: float(value) for name, value in values.items()},
        "roc_auc": float(weighted_roc_auc(y, p, np.ones((1, y.size)))[0]),
        "brier": float(np.mean((p - y) ** 2)),
    }


def validated(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, both_classes: bool = True
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels as integers and probabilities as floats, both (N,); raises EvaluationError for anything else."""
    y = np.asarray(labels)
    p = np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise EvaluationError(
            f"labels and probabilities must be two lists of the same length but have shapes {y.shape} and {p.shape}."
        )
    if y.size == 0:
        raise EvaluationError("there are no predictions to evaluate: train the row's folds first (`dvc repro`).")
    if not np.isin(y, (0, 1)).all():
        bad = y[~np.isin(y, (0, 1))][0]
        raise EvaluationError(f"labels must be 0 (benign) or 1 (malignant) but one is {bad}.")
    if np.isnan(p).any():
        raise EvaluationError(
            f"{int(np.isnan(p).sum())} of {p.size} probabilities are NaN: the training diverged; "
            "lower its learning rate and train the row again."
        )
    if p.min() < 0 or p.max() > 1:
        raise EvaluationError(
            f"probabilities must lie between 0 and 1 but range from {p.min():g} to {p.max():g}: "
            "are they logits? Apply the sigmoid first."
        )
    if both_classes and (y == y[0]).all():
        name = "malignant" if y[0] == 1 else "benign"
        raise EvaluationError(
            f"all {y.size} images are {name}, so sensitivity or specificity is undefined: "
            "use fewer folds or more images so that each test part holds both classes."
        )
    return y.astype(np.int64), p


def confusion(labels: Array, predicted: Array) -> tuple[Array, Array, Array, Array]:
    """Counts of true negatives, false positives, false negatives, true positives; inputs are 0/1, (N,)."""
    truth, call = labels.astype(bool), predicted.astype(bool)
    cells = (~truth & ~call, ~truth & call, truth & ~call, truth & call)
    return tuple(np.asarray(cell.sum()) for cell in cells)  # type: ignore[return-value]


def rates(tn: Array, fp: Array, fn: Array, tp: Array) -> dict[str, Array]:
    """The paper's seven metrics (fractions) from counts of any one shape; NaN where a class is absent.

    Sensitivity TP/(TP+FN), specificity TN/(TN+FP), F1 2TP/(2TP+FP+FN), balanced accuracy their mean
    (of sensitivity and specificity), the two error rates their complements.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = tp / np.asarray(tp + fn, dtype=np.float64)
        specificity = tn / np.asarray(tn + fp, dtype=np.float64)
        return {
            "accuracy": (tp + tn) / np.asarray(tp + tn + fp + fn, dtype=np.float64),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "f1": 2 * tp / np.asarray(2 * tp + fp + fn, dtype=np.float64),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "false_positive_rate": 1 - specificity,
            "false_negative_rate": 1 - sensitivity,
        }


def weighted_roc_auc(labels: Array, probabilities: Array, weights: Array) -> npt.NDArray[np.float64]:
    """Area under the ROC curve for each row of `weights` (R, N): the weighted Mann-Whitney statistic.

    The chance that a malignant image scores above a benign one, ties counting one half. `labels` and
    `probabilities` are (N,); weights may be counts of a bootstrap. NaN for a row without one of the classes.

    >>> weighted_roc_auc(np.array([0, 1, 1]), np.array([0.2, 0.2, 0.9]), np.ones((1, 3))).tolist()
    [0.75]
    """
    benign, malignant = (np.flatnonzero(labels == label) for label in (0, 1))
    benign = benign[np.argsort(probabilities[benign], kind="stable")]
    by_image = np.asarray(weights, dtype=np.float64).T
    return sorted_roc_auc(probabilities[benign], by_image[benign], probabilities[malignant], by_image[malignant])


def sorted_roc_auc(
    benign: Array, benign_weights: Array, malignant: Array, malignant_weights: Array
) -> npt.NDArray[np.float64]:
    """`weighted_roc_auc` from the scores of each class, benign (B,) ascending and malignant (M,).

    The weights are (B, R) and (M, R), a line an image, so that all R resamples run along memory. Counts may be
    float32: their cumulative sums stay exact below 2^24.
    """
    below = np.zeros((benign.size + 1, benign_weights.shape[1]), benign_weights.dtype)
    np.cumsum(benign_weights, axis=0, out=below[1:])
    lower, upper = (np.searchsorted(benign, malignant, side=side) for side in ("left", "right"))
    wins = np.einsum("ij,ij->j", malignant_weights, below[lower], dtype=np.float64)
    tied = upper > lower
    ties = below[upper[tied]] - below[lower[tied]]
    wins += np.einsum("ij,ij->j", malignant_weights[tied], ties, dtype=np.float64) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wins / (malignant_weights.sum(axis=0, dtype=np.float64) * below[-1]), dtype=np.float64)


def roc_curve(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """False positive rates, true positive rates and thresholds of the ROC curve, corners only.

    The first threshold is infinite (nothing is called malignant). Raises EvaluationError.
    """
    from sklearn.metrics import roc_curve as curve

    y, p = validated(labels, probabilities)
    false_positive, true_positive, thresholds = curve(y, p)
    return false_positive, true_positive, thresholds


def evenly(count: int) -> Array:
    """Indices of at most `MOST_CORNERS` of `count` corners of a curve, first and last among them, to draw it by."""
    return np.unique(np.linspace(0, count - 1, MOST_CORNERS).round().astype(int))


def youden_threshold(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The probability from which on to say malignant that maximises sensitivity + specificity - 1.

    Halfway between two scores, the lowest one among equals (the more sensitive). To be chosen on validation
    images, never on those that it is then judged by. Raises EvaluationError.

    >>> youden_threshold([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9])
    0.5
    """
    y, p = validated(labels, probabilities)
    scores = np.unique(p)
    halfway = (scores[1:] + scores[:-1]) / 2
    halfway = np.where(halfway > scores[:-1], halfway, scores[1:])  # between two neighbouring numbers there is none
    cuts = np.concatenate([scores[:1], halfway])
    benign, malignant = np.sort(p[y == 0]), np.sort(p[y == 1])
    sensitivity = 1 - np.searchsorted(malignant, cuts) / malignant.size
    specificity = np.searchsorted(benign, cuts) / benign.size
    return float(cuts[np.argmax(np.round(sensitivity + specificity, 12))])


def mask_overlap(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Array, Array]:
    """Dice and intersection over union (fractions) of each image; (N, S, S) 0/1 masks give two (N,).

    NaN where the truth is empty (no ground truth). Raises EvaluationError for different shapes.

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


def mean_overlap(values: npt.ArrayLike) -> float:
    """The mean of Dice or IoU over the images that have one (fraction); NaN when none has."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")
