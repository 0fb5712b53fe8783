"""The chance that each rule, and all of them, pass a candidate: what `power_scores` says of a cohort, put to the rules.

Folds are drawn from the moments, and each draw is decided as the rule decides, with the standard error that its
bootstrap would find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from bus_mlops.config.base import Strict
from bus_mlops.evaluation.intervals import unseen_share
from bus_mlops.gate.power_calibration import Rise, rise_of
from bus_mlops.gate.power_cohort import Cohort
from bus_mlops.gate.power_scores import AREA, LOSS, SENSITIVITY, SPECIFICITY, Moments, Pair, between_seeds, fold_moments
from bus_mlops.gate.rules.calibration import CalibrationLimits
from bus_mlops.gate.rules.floors import FloorLimits
from bus_mlops.gate.rules.sensitivity import SensitivityLimits
from bus_mlops.gate.rules.sources import SourceLimits

Array = npt.NDArray[Any]
L = TypeVar("L", bound=Strict)
DRAWS = 3000
CLUSTERED = "clustered"
# Of a two-sided 95 % interval.
UPPER = 0.975
REACH = 1.959964


@dataclass(frozen=True)
class Limits:
    """Those of the rules, as `promotion` in `params.yaml` has them; `clustered`: with several seeds."""

    floors: FloorLimits
    sensitivity: SensitivityLimits
    sources: SourceLimits
    calibration: CalibrationLimits
    clustered: bool = True

    @classmethod
    def of(cls, promotion: Mapping[str, Any]) -> Limits:
        """From the keys of the section; one that is not there has its default."""

        def one(kind: type[L]) -> L:
            return kind.model_validate({name: promotion[name] for name in kind.model_fields if name in promotion})

        limits = one(FloorLimits), one(SensitivityLimits), one(SourceLimits), one(CalibrationLimits)
        return cls(*limits, clustered=promotion.get("test", CLUSTERED) == CLUSTERED)


@dataclass(frozen=True)
class Chances:
    """That a candidate passes (fractions).

    Attributes:
        floor_of_sensitivity: One of the two floors.
        floor_of_specificity: The other.
        floors: The rule on both.
        superiority: The rule on the primary metric.
        lost_sensitivity: The rule that a loss of it is ruled out.
        sources: The rule that no source falls.
        calibration: The rule that a rise of the calibration error is ruled out.
        gate: All rules.
    """

    floor_of_sensitivity: float
    floor_of_specificity: float
    floors: float
    superiority: float
    lost_sensitivity: float
    sources: float
    calibration: float
    gate: float


def chances(cohort: Cohort, pair: Pair, limits: Limits, level: float, rise: Rise | None = None) -> Chances:
    """What the rules do with a candidate and a baseline of these true areas.

    Args:
        cohort: What they are tested on.
        pair: Their areas.
        limits: Of the rules.
        level: Superiority passes where p is lower; 0 passes nothing.
        rise: Of the calibration error at another size of the cohort, if it is known.
    """
    from scipy import stats

    rng = np.random.default_rng(2)
    moments = fold_moments(cohort, pair)
    luck = rng.multivariate_normal(np.zeros(4), moments.trainings, (DRAWS, cohort.folds), method="eigh")
    rest = rng.multivariate_normal(
        moments.mean, moments.images + moments.thresholds, (DRAWS, cohort.folds), method="eigh"
    )
    folds = luck + rest
    mean = folds.mean(axis=1)
    sensitive = _reaches(mean[:, SENSITIVITY], cohort.malignant, cohort, limits.floors.minimum_sensitivity)
    specific = _reaches(mean[:, SPECIFICITY], cohort.benign, cohort, limits.floors.minimum_specificity)
    superior = _p(folds[:, :, AREA], cohort, pair, moments, limits.clustered, rng) < level
    error, freedom = _errors(LOSS, cohort, pair, moments, rng)
    no_loss = mean[:, LOSS] - stats.t.ppf(UPPER, freedom) * error > -limits.sensitivity.sensitivity_margin
    everywhere = _everywhere(mean[:, AREA], cohort, moments, pair, limits.sources, rng)
    rise = rise or rise_of(cohort, pair)
    calibrated = rng.random(DRAWS) < rise.chance(cohort.images, limits.calibration.calibration_margin)
    rules = np.array([sensitive & specific, superior, no_loss, everywhere, calibrated])
    shares = [float(each.mean()) for each in (sensitive, specific, *rules, rules.all(axis=0))]
    return Chances(*shares)


def _reaches(rates: Array, images: int, cohort: Cohort, floor: float) -> Array:
    rates = rates.clip(0, 1)
    error = np.sqrt(rates * (1 - rates) * cohort.design_effect / images)
    bounds = np.where(rates < 1, rates - REACH * error, 1 - unseen_share(images / cohort.design_effect))
    return np.asarray(bounds >= floor)


def _errors(measure: int, cohort: Cohort, pair: Pair, moments: Moments, rng: Generator) -> tuple[Array, Array]:
    """The standard error that the clustered test would find of a difference, and its degrees of freedom, (draws,)."""
    folds, seeds = cohort.folds, cohort.seeds
    cases = moments.images[measure, measure] / folds
    groups = cohort.images / cohort.group_size - folds
    if seeds == 1:
        return np.full(DRAWS, np.sqrt(cases)), np.full(DRAWS, groups)
    freedom = folds * (seeds - 1)
    between = between_seeds(cohort, pair)
    # Half of it is of one model, whose own networks tell it.
    whole, shared = (each[measure, measure] / 2 for each in (between.whole, between.shared))
    within = whole * rng.chisquare(freedom, (2, DRAWS)) / freedom
    seen = np.maximum(0, within - shared) / (folds * seeds)
    total = cases + seen.sum(axis=0)
    return np.sqrt(total), total**2 / (cases**2 / groups + (seen**2).sum(axis=0) / freedom)


def _p(differences: Array, cohort: Cohort, pair: Pair, moments: Moments, clustered: bool, rng: Generator) -> Array:
    """One-sided p of each draw as the rule finds it; `differences` in area are (draws, folds)."""
    from scipy import stats

    folds, seeds = cohort.folds, cohort.seeds
    if seeds > 1 and clustered:
        error, freedom = _errors(AREA, cohort, pair, moments, rng)
        return np.asarray(stats.t.sf(differences.mean(axis=1) / error, freedom))
    # The corrected resampled t-test, of single networks where there are several.
    single = np.sqrt(between_seeds(cohort, pair).whole[AREA, AREA]) if seeds > 1 else 0.0
    pairs = differences[:, :, None] + single * rng.normal(size=(DRAWS, folds, seeds))
    error = np.sqrt((1 / (folds * seeds) + cohort.tested_per_trained) * pairs.var(axis=(1, 2), ddof=1))
    return np.asarray(stats.t.sf(pairs.mean(axis=(1, 2)) / error, folds * seeds - 1))


def _everywhere(
    mean: Array, cohort: Cohort, moments: Moments, pair: Pair, limits: SourceLimits, rng: Generator
) -> Array:
    """Whether no source that is large enough falls by its margin; sources chance apart, but for one alone."""
    passed = np.ones(len(mean), dtype=bool)
    for name, counts in cohort.sources.items():
        if min(counts.malignant_cases, counts.benign_cases) < limits.source_malignant:
            continue
        margin = limits.source_margins.get(name, limits.source_margin)
        share = counts.malignant / cohort.malignant, counts.benign / cohort.benign
        variance = moments.covariance[AREA, AREA] / cohort.folds / min(share)
        alone = len(cohort.sources) == 1
        drawn = mean if alone else pair.gain + np.sqrt(variance) * rng.normal(size=len(mean))
        passed &= drawn >= -margin
    return passed
