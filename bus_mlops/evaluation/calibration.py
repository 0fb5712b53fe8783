"""Whether probabilities mean what they say: expected calibration error and its excess, slope and intercept.

Each for all resamples of a bootstrap at once, from sums over groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.resampling import GroupWeights

Array = npt.NDArray[Any]

BINS = 10
# Probabilities of 0 and 1 have no logit.
NEAREST = 1e-6
# Logits of one probability in single precision differ by less, the more so in its middle.
ROUNDING = 1e-5
MOST_STEPS = 100
# An interval of twice this to either side holds a perfect slope of 1, none at all, and what is as wrong.
LARGEST_SLOPE_ERROR = 2.0


def calibration_error(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """Mean distance (fraction) of predicted and observed share of malignancy over ten equally filled bins.

    Sum over bins of |sum of (p - y) in the bin| / N (Naeini et al., Obtaining well calibrated probabilities using
    Bayesian binning, 2015, with bins of equal counts). A perfect model has one above 0, the more so the fewer
    images there are.
    """
    return _errors(labels, probabilities, weights)[0]


def calibration_excess(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """The calibration error minus what is to be expected of perfect probabilities on as many images.

    If the probabilities are true, the sum of (p - y) over a bin has mean 0 and variance v = sum of p (1 - p), and its
    absolute value the mean sqrt(2 v / pi) of a normal distribution, at most 2 v. May be negative.
    """
    errors, expected = _errors(labels, probabilities, weights)
    return np.asarray(errors - expected, dtype=np.float64)


def calibration_slope(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """The slope b of logit P(malignant) = a + b logit(p), of each resample: below 1 where p is too extreme.

    Fitted with Firth's penalty (Bias reduction of maximum likelihood estimates, Biometrika 80, 1993), which is finite
    where a class can be told apart without error and takes away the bias of few images. A resample takes one Newton
    step from the fit to all images. NaN where the images do not tell it (`tells_slope`).
    """
    if not tells_slope(labels, probabilities):
        return np.full(weights.resamples, np.nan)
    design, scale = _by_deviations(_logits(probabilities))
    return np.asarray(_fitted(labels, design, np.zeros(len(design)), weights)[:, 1] / scale, dtype=np.float64)


def tells_slope(labels: Array, probabilities: Array) -> bool:
    """Whether the probabilities differ enough, for so many images, to say anything of their slope.

    Those of a network that hardly learned anything lie close together: whatever slope fits them best has a standard
    error beyond that of any slope that means something.

    >>> tells_slope(np.array([0, 1] * 20), np.array([0.2, 0.7] * 19 + [0.7, 0.2]))
    True
    >>> tells_slope(np.array([0, 1] * 20), np.array([0.501, 0.502] * 19 + [0.502, 0.501]))
    False
    """
    logits = _logits(probabilities)
    if np.ptp(logits) < ROUNDING:
        return False
    design, scale = _by_deviations(logits)
    offset = np.zeros_like(logits)
    _, slopes = _derivatives(labels, design, offset, _firth(labels, design, offset))
    information = _products(slopes, design).sum(axis=0).reshape(2, 2)
    return bool(np.sqrt(np.linalg.inv(information)[1, 1]) / scale <= LARGEST_SLOPE_ERROR)


def calibration_intercept(labels: Array, probabilities: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
    """The intercept a of logit P(malignant) = a + logit(p), of each resample: above 0 where p is too low on the whole.

    Fitted as `calibration_slope` is.
    """
    logits = _logits(probabilities)
    return _fitted(labels, np.ones((logits.size, 1)), logits, weights)[:, 0]


def _errors(labels: Array, probabilities: Array, weights: GroupWeights) -> tuple[Array, Array]:
    edges = np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    member = np.searchsorted(edges, probabilities, side="left")[:, None] == np.arange(BINS)
    residuals, variances = (
        weights.totals(member * each[:, None]) for each in (probabilities - labels, probabilities * (1 - probabilities))
    )
    images = weights.totals(np.ones(labels.size))
    expected = np.minimum(np.sqrt(2 / np.pi * variances), 2 * variances)
    return np.abs(residuals).sum(axis=1) / images, expected.sum(axis=1) / images


def _logits(probabilities: Array) -> Array:
    p = np.clip(probabilities.astype(np.float64), NEAREST, 1 - NEAREST)
    return np.asarray(np.log(p / (1 - p)))


def _by_deviations(logits: Array) -> tuple[Array, float]:
    """Design (N, 2) of intercept and slope in the logits' own deviations, which condition the fit well; and those."""
    scale = float(logits.std())
    return np.stack([np.ones_like(logits), (logits - logits.mean()) / scale], axis=1), scale


def _fitted(labels: Array, design: Array, offset: Array, weights: GroupWeights) -> Array:
    """Coefficients (resamples, K) of the penalised logistic regression on a design (N, K)."""
    fit = _firth(labels, design, offset)
    score, slopes = _derivatives(labels, design, offset, fit)
    count = design.shape[1]
    information = weights.totals(_products(slopes, design)).reshape(-1, count, count)
    # A resample of one group may not tell intercept from slope.
    singular = np.linalg.det(information) <= 1e-12 * np.trace(information, axis1=1, axis2=2) ** count
    information[singular] = np.eye(count)
    steps = np.linalg.solve(information, weights.totals(score)[:, :, None])[:, :, 0]
    steps[singular] = np.nan
    return np.asarray(fit + steps)


def _products(slopes: Array, design: Array) -> Array:
    """Each image's part of the information, (N, K * K)."""
    return np.asarray((slopes[:, None, None] * design[:, :, None] * design[:, None, :]).reshape(len(design), -1))


def _derivatives(labels: Array, design: Array, offset: Array, fit: Array) -> tuple[Array, Array]:
    """Each image's part of the penalised score, (N, K), and p (1 - p), (N,)."""
    p = 1 / (1 + np.exp(-np.clip(design @ fit + offset, -30, 30)))
    slopes = p * (1 - p)
    inverse = np.linalg.inv(_products(slopes, design).sum(axis=0).reshape(design.shape[1], -1))
    leverage = slopes * np.einsum("ij,jk,ik->i", design, inverse, design)
    return design * (labels - p + leverage * (0.5 - p))[:, None], slopes


def _firth(labels: Array, design: Array, offset: Array) -> Array:
    fit = np.zeros(design.shape[1])
    for _ in range(MOST_STEPS):
        score, slopes = _derivatives(labels, design, offset, fit)
        information = _products(slopes, design).sum(axis=0).reshape(design.shape[1], -1)
        step = np.linalg.solve(information, score.sum(axis=0))
        # A long step overshoots where the curve is flat.
        step /= max(1.0, float(np.abs(design @ step).max()) / 3)
        fit = fit + step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(fit)
