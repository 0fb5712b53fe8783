"""How far the expected calibration error of one model may rise over another's by chance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr

from bus_mlops.evaluation.resampling import group_weights
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.gate.calibration_error import calibration_difference, expected_error
from bus_mlops.gate.power_cohort import Cohort
from bus_mlops.gate.power_scores import Pair, correlation

Array = npt.NDArray[Any]
# Few, since the rule's own function is asked, and of no more images than that; other sizes follow from the root.
REPEATS, RESAMPLES, LARGEST = 30, 60, 600


@dataclass(frozen=True)
class Rise:
    """The upper 95 % bound of the difference in calibration error on so many images: mean and standard deviation."""

    images: int
    mean: float
    deviation: float

    def chance(self, images: int, margin: float) -> float:
        """That the bound lies below the margin (fraction); both shrink with the root of the number of images."""
        shrunk = np.sqrt(self.images / images)
        return float(ndtr((margin - self.mean * shrunk) / (self.deviation * shrunk)))


@lru_cache(maxsize=16)
def _drawn(pair: Pair, seeds: int, folds: int, test: tuple[int, int], validation: tuple[int, int]) -> tuple[float, ...]:
    rng = np.random.default_rng(3)
    return tuple(_bound(rng, pair, seeds, folds, test, validation) for _ in range(REPEATS))


def rise_of(cohort: Cohort, pair: Pair) -> Rise:
    """What the rule would find on a cohort: calibrated on validation parts, compared on the test parts."""
    cohort = cohort.resized(min(LARGEST, cohort.images))
    test = tuple(max(2, round(n / cohort.folds)) for n in (cohort.malignant, cohort.benign))
    validation = tuple(max(2, round(cohort.validation * n)) for n in (cohort.malignant, cohort.benign))
    bounds = _drawn(pair, cohort.seeds, cohort.folds, (test[0], test[1]), (validation[0], validation[1]))
    return Rise(cohort.images, float(np.mean(bounds)), float(np.std(bounds, ddof=1)))


def _bound(
    rng: np.random.Generator, pair: Pair, seeds: int, folds: int, test: tuple[int, int], validation: tuple[int, int]
) -> float:
    labels: list[Array] = []
    ours: list[Array] = []
    theirs: list[Array] = []
    for _ in range(folds):
        known, known_scores = _scores(rng, pair, seeds, validation)
        tested, scores = _scores(rng, pair, seeds, test)
        labels.append(tested)
        for found, fitted, new in zip((ours, theirs), known_scores, scores, strict=True):
            found.append(fit_calibration(known, expit(fitted)).apply(expit(new)))
    joined = np.concatenate(labels), np.concatenate(ours), np.concatenate(theirs)
    images = np.arange(joined[0].size)
    expected = [expected_error(each, images, RESAMPLES) for each in joined[1:]]
    return calibration_difference(*joined, group_weights(images, RESAMPLES, 0), expected[0] - expected[1]).high


def _scores(rng: np.random.Generator, pair: Pair, seeds: int, counts: tuple[int, int]) -> tuple[Array, Array]:
    """Labels and the scores of both models, (2, N), of so many malignant and benign images."""
    label = np.repeat([1, 0], counts)
    rho = correlation(seeds)
    noise = np.sqrt(rho) * rng.normal(size=label.size) + np.sqrt(1 - rho) * rng.normal(size=(2, label.size))
    return label, np.outer(pair.separations, label - 0.5) + noise
