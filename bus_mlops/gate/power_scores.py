"""What chance does to two models on a cohort: a binormal model of their scores, and the moments of what rules measure.

Scores of malignant images lie `separation` above those of benign ones, in units of their standard deviation. What makes
an image hard is mostly shared by all models; the rest belongs to one model, or to one training of it. A training
also has luck: its separation varies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.gate.power_cohort import Cohort

Array = npt.NDArray[Any]

# Shares of the variance of a score within a class. Two networks with ImageNet weights on BUSI correlate to 0.75.
SHARED, OWN, OF_TRAINING = 0.75, 0.125, 0.125
# Standard deviation of the separation between trainings, in units of the noise of one.
LUCK = 0.10
# Sensitivities are compared where so many benign images are called benign.
AT_SPECIFICITY = 0.90
# Images and validation parts that moments are computed from.
SAMPLE, VALIDATIONS = 20_000, 200
# What rules measure, in this order: difference in area; the candidate's sensitivity and specificity at Youden's
# threshold; difference in sensitivity at thresholds of the same specificity.
AREA, SENSITIVITY, SPECIFICITY, LOSS = range(4)


@dataclass(frozen=True)
class Pair:
    """True areas under the ROC curve (fractions) of candidate and baseline, as ensembles of their seeds."""

    candidate: float
    baseline: float

    @property
    def gain(self) -> float:
        """Candidate minus baseline."""
        return self.candidate - self.baseline

    @property
    def separations(self) -> tuple[float, float]:
        """Of the two, in standard deviations."""
        return separation(self.candidate), separation(self.baseline)


@dataclass(frozen=True)
class Moments:
    """Of the four measures on one fold.

    Attributes:
        mean: (4,).
        images: Covariance by the chance of which images are there, (4, 4); what a bootstrap sees.
        thresholds: By the choice of thresholds on validation images.
        trainings: By the luck of trainings, all seeds together.
    """

    mean: Array
    images: Array
    thresholds: Array
    trainings: Array

    @property
    def covariance(self) -> Array:
        """All of it."""
        return np.asarray(self.images + self.thresholds + self.trainings)


def separation(area: float) -> float:
    """Distance of the classes (in standard deviations) at an area under the ROC curve.

    >>> round(separation(0.5), 3), round(separation(0.9), 3)
    (0.0, 1.812)
    """
    from scipy.special import ndtri

    return float(np.sqrt(2) * ndtri(area))


def area_of(sensitivity: float, specificity: float) -> float:
    """The area of a binormal model with this operating point (fractions).

    >>> round(area_of(0.904, 0.898), 3)
    0.966
    """
    from scipy.special import ndtr, ndtri

    return float(ndtr((ndtri(sensitivity) + ndtri(specificity)) / np.sqrt(2)))


def correlation(seeds: int) -> float:
    """Of two models' scores within a class, each the mean of so many trainings.

    >>> correlation(1)
    0.75
    """
    return SHARED / _variance(seeds)


def luck(seeds: int) -> float:
    """Standard deviation of an ensemble's separation between trainings, in units of its noise."""
    return float(LUCK / np.sqrt(seeds * _variance(seeds)))


def fold_moments(cohort: Cohort, pair: Pair) -> Moments:
    """The moments of one fold of a cohort."""
    malignant, benign = (n / cohort.folds for n in (cohort.malignant, cohort.benign))
    of_malignant, of_benign = _per_image(pair, cohort.seeds)
    images = cohort.design_effect * (of_malignant / malignant + of_benign / benign)
    at_validation = tuple(max(2, round(cohort.validation * n)) for n in (cohort.malignant, cohort.benign))
    chosen = _chosen(pair, cohort.seeds, *at_validation)
    return Moments(
        mean=np.concatenate([[pair.gain], chosen.mean(axis=0)]),
        images=images,
        thresholds=_embedded(np.cov(chosen, rowvar=False)),
        trainings=luck(cohort.seeds) ** 2 * _by_luck(pair),
    )


@dataclass(frozen=True)
class BetweenSeeds:
    """Covariance of single networks' measures between the seeds of a fold, (4, 4), and what test images do of it.

    Attributes:
        whole: Luck, thresholds, and noise of a training's own.
        shared: The last: other test images would change it too, so that a bootstrap over them has it already.
    """

    whole: Array
    shared: Array


def between_seeds(cohort: Cohort, pair: Pair) -> BetweenSeeds:
    """How far the networks of a fold differ, of both models together."""
    single = fold_moments(replace(cohort, seeds=1), pair)
    own = OF_TRAINING / (OWN + OF_TRAINING)
    return BetweenSeeds(single.trainings + own * (single.images + single.thresholds), own * single.images)


def _variance(seeds: int) -> float:
    return SHARED + OWN + OF_TRAINING / seeds


def _correlated(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> Array:
    """Standard normal scores of both models, (2, *shape)."""
    shared = rng.normal(size=shape)
    return np.asarray(np.sqrt(rho) * shared + np.sqrt(1 - rho) * rng.normal(size=(2, *shape)))


@lru_cache(maxsize=64)
def _per_image(pair: Pair, seeds: int) -> tuple[Array, Array]:
    """Covariances of what one malignant and one benign image contribute, (4, 4) each."""
    from scipy.special import ndtr, ndtri

    rng = np.random.default_rng(0)
    ours, theirs = pair.separations
    at = ndtri(AT_SPECIFICITY)
    malignant = _correlated(rng, (SAMPLE,), correlation(seeds)) + np.array([[ours], [theirs]])
    benign = _correlated(rng, (SAMPLE,), correlation(seeds))
    none = np.zeros(SAMPLE)
    of_malignant = [
        ndtr(malignant[0]) - ndtr(malignant[1]),
        malignant[0] > ours / 2,
        none,
        (malignant[0] > at) - 1.0 * (malignant[1] > at),
    ]
    of_benign = [ndtr(ours - benign[0]) - ndtr(theirs - benign[1]), none, benign[0] < ours / 2, none]
    return np.cov(np.array(of_malignant, float)), np.cov(np.array(of_benign, float))


@lru_cache(maxsize=256)
def _chosen(pair: Pair, seeds: int, malignant: int, benign: int) -> Array:
    """True sensitivity, specificity and loss at thresholds chosen on validation parts, (VALIDATIONS, 3)."""
    from scipy.special import ndtr

    rng = np.random.default_rng(1)
    ours, theirs = pair.separations
    of_malignant = _correlated(rng, (VALIDATIONS, malignant), correlation(seeds))[0] + ours
    of_benign = _correlated(rng, (VALIDATIONS, benign), correlation(seeds))
    youden = _youden(of_malignant, of_benign[0])
    same = np.quantile(of_benign, AT_SPECIFICITY, axis=-1)
    loss = ndtr(ours - same[0]) - ndtr(theirs - same[1])
    return np.column_stack([ndtr(ours - youden), ndtr(youden), loss])


def _youden(malignant: Array, benign: Array) -> Array:
    """Youden's threshold of each row, halfway between two scores, the lowest of equals."""
    scores = np.concatenate([malignant, benign], axis=1)
    order = np.argsort(scores, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    of_malignant = order < malignant.shape[1]
    # Called benign up to and with the i-th score: what it wins in specificity, less what it costs in sensitivity.
    steps = np.where(of_malignant, -1 / malignant.shape[1], 1 / benign.shape[1])
    best = np.minimum(np.argmax(np.round(np.cumsum(steps, axis=1), 12), axis=1), ordered.shape[1] - 2)
    rows = np.arange(len(ordered))
    return np.asarray((ordered[rows, best] + ordered[rows, best + 1]) / 2)


def _embedded(covariance: Array) -> Array:
    """A covariance of the last three measures among all four: no threshold moves an area."""
    whole = np.zeros((4, 4))
    whole[1:, 1:] = covariance
    return whole


def _by_luck(pair: Pair) -> Array:
    """Covariance of the measures for a variance 1 of each model's separation, (4, 4)."""
    from scipy.special import ndtri

    ours, theirs = pair.separations
    at = ndtri(AT_SPECIFICITY)
    both = (
        [_density(ours / np.sqrt(2)) / np.sqrt(2), _density(ours / 2) / 2, _density(ours / 2) / 2, _density(ours - at)],
        [-_density(theirs / np.sqrt(2)) / np.sqrt(2), 0, 0, -_density(theirs - at)],
    )
    return np.asarray(sum(np.outer(each, each) for each in both))


def _density(x: float) -> float:
    return float(np.exp(-x * x / 2) / np.sqrt(2 * np.pi))
