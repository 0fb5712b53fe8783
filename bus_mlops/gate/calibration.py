"""Platt scaling: making a network's probabilities mean what they say, fitted on validation predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import Calibration, logit, sigmoid
from bus_mlops.evaluation.metric import validated

_STEPS = 100


def fit_calibration(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Calibration:
    """Slope and intercept of sigmoid(slope * logit(p) + intercept) by maximum likelihood; both inputs (N,).

    Labels are smoothed to (n1 + 1)/(n1 + 2) and 1/(n0 + 2), so that separable classes have a finite answer (Platt,
    Probabilistic outputs for support vector machines, 1999). A slope that would turn the order round (validation
    images ranked worse than by chance) stays 1 and only the intercept is fitted.

    Raises:
        EvaluationError: As in `evaluation.metric.validated`.

    Example:
        >>> calibration = fit_calibration([0, 1] * 50, [0.6, 0.9] * 50)
        >>> 0.9 < calibration(0.9) < 1, 0 < calibration(0.6) < 0.1
        (True, True)
    """
    y, p = validated(labels, probabilities)
    positives = int(y.sum())
    targets = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (y.size - positives + 2))
    logits = logit(p)
    slope, intercept = maximum_likelihood(logits, targets, free_slope=bool(np.ptp(logits) > 0))
    if slope <= 0:
        slope, intercept = maximum_likelihood(logits, targets, free_slope=False)
    return Calibration(slope=slope, intercept=intercept)


def maximum_likelihood(
    logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], free_slope: bool = True
) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of targets (0-1) on logits, both (N,); one not free is slope 1.

    Newton's steps, each halved until the likelihood does not fall.
    """
    design = np.column_stack([logits, np.ones_like(logits)]) if free_slope else np.ones((logits.size, 1))
    fixed = np.zeros_like(logits) if free_slope else logits
    found = np.zeros(design.shape[1])
    value = _likelihood(fixed, targets)
    for _ in range(_STEPS):
        p = sigmoid(fixed + design @ found)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-10 * np.eye(found.size)
        step = np.linalg.solve(hessian, design.T @ (targets - p))
        while _likelihood(fixed + design @ (found + step), targets) < value and np.abs(step).max() > 1e-10:
            step = step / 2
        found = found + step
        value = _likelihood(fixed + design @ found, targets)
        if np.abs(step).max() < 1e-9:
            break
    return (float(found[0]), float(found[1])) if free_slope else (1.0, float(found[0]))


def _likelihood(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> float:
    return float(np.sum(targets * logits - np.logaddexp(0, logits)))
