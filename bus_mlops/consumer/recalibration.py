"""What fits a model's answers at another place: Platt's and temperature scaling, and a threshold, from a few cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import Calibration, logit, sigmoid
from bus_mlops.errors import EvaluationError

Array = npt.NDArray[Any]

DRAWS = 200
# Of each label: with fewer nothing can be fitted to it, or said of it.
FEWEST_DRAWN, FEWEST_LEFT = 2, 5
# That of a temperature of 100.
LEAST_SLOPE = 0.01
_STEPS = 100


@dataclass(frozen=True)
class Fit:
    """What some cases fit: from which of the model's own answers on to say malignant, and two recalibrations of them.

    Attributes:
        threshold: Of the answers as the model gives them, 0-1.
        platt: Slope and intercept of their logit.
        temperature: A slope alone: the logit is divided by the temperature, 1 / slope.
    """

    threshold: float
    platt: Calibration
    temperature: Calibration


@dataclass(frozen=True)
class Draw:
    """A fit to cases that were drawn, and which images belong to cases that were not, (N,)."""

    fit: Fit
    rest: npt.NDArray[np.bool_]


def fit_platt(labels: Array, probabilities: Array) -> Calibration:
    """Slope and intercept of sigmoid(slope * logit(p) + intercept) by maximum likelihood; both inputs (N,).

    Labels are smoothed to (n1 + 1)/(n1 + 2) and 1/(n0 + 2), so that separable classes have a finite answer (Platt,
    Probabilistic outputs for support vector machines, 1999). A slope that would turn the order round stays 1 and only
    the intercept is fitted.

    >>> calibration = fit_platt(np.array([0, 1] * 50), np.array([0.6, 0.9] * 50))
    >>> 0.9 < calibration(0.9) < 1, 0 < calibration(0.6) < 0.1
    (True, True)
    """
    targets, logits = smoothed(labels), logit(probabilities)
    if np.ptp(logits) > 0:
        slope, intercept = logistic_fit(np.column_stack([logits, np.ones_like(logits)]), np.zeros_like(logits), targets)
        if slope > 0:
            return Calibration(slope=float(slope), intercept=float(intercept))
    (intercept,) = logistic_fit(np.ones((logits.size, 1)), logits, targets)
    return Calibration(intercept=float(intercept))


def fit_temperature(labels: Array, probabilities: Array) -> Calibration:
    """The slope alone of `fit_platt` (Guo et al., On calibration of modern neural networks, 2017).

    The temperature is 100 at most, at which all answers are near .5: more, or a slope below 0, says no more than that.

    >>> round(fit_temperature(np.array([0, 1] * 50), np.array([0.4, 0.6] * 50)).slope, 2)
    9.7
    >>> round(fit_temperature(np.array([0, 1] * 50), np.array([0.6, 0.4] * 50)).slope, 2)
    0.01
    """
    logits = logit(probabilities)
    (slope,) = logistic_fit(logits[:, None], np.zeros_like(logits), smoothed(labels))
    return Calibration(slope=max(float(slope), LEAST_SLOPE))


def fit_threshold(labels: Array, probabilities: Array, claimed: tuple[float, float] = (0.0, 0.0)) -> float:
    """The probability from which on to say malignant that comes nearest to a claimed sensitivity and specificity.

    The lesser of what both exceed their claims by is as large as it can be; without a claim, they are alike. As the one
    falls and the other rises with the threshold, this is where they cross, which 20 cases and more tell better than
    where their sum is greatest (benchmarks/recalibration.py). In the middle of all thresholds that do so, by logits.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), 0-1.
        claimed: Sensitivity and specificity (fractions).

    Example:
        >>> round(fit_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.7, 0.9])), 3)
        0.5
    """
    answers = np.unique(probabilities)
    scores = logit(answers)
    step = np.diff(scores)
    # Halfway between scores; and beyond the ends, where all or nothing is called malignant.
    edge = float(step.mean()) / 2 if step.size else 1.0
    cuts = np.concatenate([scores[:1] - edge, scores[:-1] + step / 2, scores[-1:] + edge])
    # Below each cut, by the order of the answers: two of them may be too close for anything between.
    below = np.append(answers, np.inf)
    benign, malignant = (np.sort(probabilities[labels == label]) for label in (0, 1))
    sensitivity = 1 - np.searchsorted(malignant, below) / malignant.size
    specificity = np.searchsorted(benign, below) / benign.size
    worse = np.round(np.minimum(sensitivity - claimed[0], specificity - claimed[1]), 12)
    best = np.flatnonzero(worse == worse.max())
    middle = float(sigmoid(np.array([(cuts[best[0]] + cuts[best[-1]]) / 2]))[0])
    above = np.nextafter(answers[best[0] - 1], 1) if best[0] else 0.0
    return float(np.clip(middle, above, below[best[-1]]))


def fit_all(labels: Array, probabilities: Array, claimed: tuple[float, float] = (0.0, 0.0)) -> Fit:
    """Threshold and recalibrations of some images, (N,).

    Raises:
        EvaluationError: They are of one label only.
    """
    if len(np.unique(labels)) < 2:
        raise EvaluationError(f"nothing can be fitted to {labels.size} images of one label: label cases of both.")
    return Fit(
        fit_threshold(labels, probabilities, claimed),
        fit_platt(labels, probabilities),
        fit_temperature(labels, probabilities),
    )


def too_few(labels: Array, cases: Array, count: int) -> str:
    """Why so many cases cannot be drawn with others left to judge them by; "" if they can.

    Args:
        labels: Of the images, (N,).
        cases: The case of each, (N,).
        count: How many cases are drawn.
    """
    of_case = _labels_of(labels, cases)[1]
    malignant = _malignant_of(of_case, count)
    there = {"malignant": int(of_case.sum()), "benign": int((1 - of_case).sum())}
    taken = {"malignant": malignant, "benign": count - malignant}
    for label, number in taken.items():
        if number < FEWEST_DRAWN or there[label] - number < FEWEST_LEFT:
            return (
                f"of {there[label]} {label} cases {max(number, FEWEST_DRAWN)} would be drawn, and {FEWEST_LEFT} or "
                "more must be left to judge by"
            )
    return ""


def draws_of(
    labels: Array,
    probabilities: Array,
    cases: Array,
    count: int,
    claimed: tuple[float, float] = (0.0, 0.0),
    draws: int = DRAWS,
    seed: int = 0,
) -> Iterator[Draw]:
    """Draw so many cases again and again, with labels in the shares that all cases have, and fit to their images.

    Args:
        labels: Of the images, (N,), 0 or 1; a case is malignant when one of its images is.
        probabilities: (N,), 0-1.
        cases: The case of each image, (N,).
        count: How many cases are drawn.
        claimed: As for `fit_threshold`.
        draws: How often.
        seed: Of the draws.

    Raises:
        EvaluationError: `too_few`.
    """
    if why := too_few(labels, cases, count):
        raise EvaluationError(f"{count} local cases cannot be drawn: {why}.")
    member, of_case = _labels_of(labels, cases)
    malignant = _malignant_of(of_case, count)
    rng = np.random.default_rng((seed, count))
    kinds = ((np.flatnonzero(of_case == 1), malignant), (np.flatnonzero(of_case == 0), count - malignant))
    for _ in range(draws):
        drawn = np.zeros(len(of_case), bool)
        for places, number in kinds:
            drawn[rng.choice(places, number, replace=False)] = True
        inside = drawn[member]
        # Whatever images a malignant case has besides, each kind of case brings its label.
        yield Draw(fit_all(labels[inside], probabilities[inside], claimed), ~inside)


def refits(labels: Array, probabilities: Array, cases: Array, claimed: tuple[float, float], seed: int = 0) -> list[Fit]:
    """Fits to cases that are drawn with replacement, as many of each label as there are: how sure a fit to all is."""
    member, of_case = _labels_of(labels, cases)
    rng = np.random.default_rng((seed, 0))
    images = [np.flatnonzero(member == place) for place in range(len(of_case))]
    kinds = [np.flatnonzero(of_case == label) for label in (0, 1)]
    fits = []
    for _ in range(DRAWS):
        drawn = np.concatenate([rng.choice(places, len(places)) for places in kinds])
        rows = np.concatenate([images[place] for place in drawn])
        fits.append(fit_all(labels[rows], probabilities[rows], claimed))
    return fits


def band(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Median of values, and between which two 95 of 100 lie."""
    middle, low, high = np.quantile(np.asarray(values, np.float64), [0.5, 0.025, 0.975])
    return float(middle), float(low), float(high)


def _labels_of(labels: Array, cases: Array) -> tuple[Array, Array]:
    """The case of each image as a number, (N,), and the label of each case."""
    names, member = np.unique(cases, return_inverse=True)
    of_case = np.zeros(len(names), np.int64)
    np.maximum.at(of_case, member, labels.astype(np.int64))
    return member, of_case


def _malignant_of(of_case: Array, count: int) -> int:
    return min(max(round(count * float(of_case.mean())), FEWEST_DRAWN), max(count - FEWEST_DRAWN, 0))


def smoothed(labels: Array) -> Array:
    """Platt's targets for labels (N,), which keep a fit finite where the classes can be told apart without error."""
    positives = int(labels.sum())
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (labels.size - positives + 2))


def logistic_fit(design: Array, fixed: Array, targets: Array) -> Array:
    """Coefficients of the logistic regression of targets (0-1) on a design (N, K) beside fixed logits (N,).

    Newton's steps, each halved until the likelihood does not fall.
    """

    def likelihood(logits: Array) -> float:
        return float(np.sum(targets * logits - np.logaddexp(0, logits)))

    found = np.zeros(design.shape[1])
    value = likelihood(fixed)
    for _ in range(_STEPS):
        p = sigmoid(fixed + design @ found)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-10 * np.eye(found.size)
        step = np.linalg.solve(hessian, design.T @ (targets - p))
        while likelihood(fixed + design @ (found + step)) < value and np.abs(step).max() > 1e-10:
            step = step / 2
        found = found + step
        value = likelihood(fixed + design @ found)
        if np.abs(step).max() < 1e-9:
            break
    return found
