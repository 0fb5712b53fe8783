"""Platt scaling: making a network's probabilities mean what they say, fitted on validation predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import Calibration
from bus_mlops.consumer.recalibration import fit_platt, logistic_fit
from bus_mlops.evaluation.metric import validated


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
    return fit_platt(y, p)


def maximum_likelihood(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of targets (0-1) on logits, both (N,)."""
    slope, intercept = logistic_fit(np.column_stack([logits, np.ones_like(logits)]), np.zeros_like(logits), targets)
    return float(slope), float(intercept)
