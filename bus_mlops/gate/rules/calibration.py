"""G5, calibration: probabilities go on meaning what they say."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.evaluation.resampling import weights_within
from bus_mlops.gate.calibration_error import (
    calibration_curve,
    calibration_difference,
    calibration_error,
    expected_error,
)
from bus_mlops.gate.chances import chance_of_an_equal, in_percent
from bus_mlops.gate.comparison import CONFIDENCE, Comparison
from bus_mlops.gate.rule import Verdict, rule

# Standard errors that a 95 % interval reaches to either side.
REACH = 1.959964


class CalibrationLimits(Strict):
    """The rise of the excess calibration error (fraction) that must be ruled out."""

    calibration_margin: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="a rise of the calibration error by this much must be ruled out [fraction]",
    )


@rule("G5", "calibration")
def calibration(comparison: Comparison, limits: CalibrationLimits) -> Verdict:
    """The excess calibration error is not higher than the baseline's by the margin.

    Excess is what a perfectly calibrated model with the same answers would not have on so few images. Slope and
    intercept are told and do not judge: they have no common scale with each other, and one margin for each would be
    two more rules to pass; a model that both condemn has an excess.
    """
    pair, margin = comparison.pair, limits.calibration_margin
    both = {"candidate": pair.candidate, "baseline": pair.baseline}
    values: dict[str, float | int | str] = {}
    for name, probabilities in both.items():
        error, expected = calibration_error(pair.labels, probabilities), _expected(comparison, probabilities)
        slope, intercept = calibration_curve(pair.labels, probabilities)
        values |= {name: error, f"{name}_expected": expected, f"{name}_excess": error - expected}
        values |= {f"{name}_slope": slope, f"{name}_intercept": intercept}
    interval = calibration_difference(
        pair.labels,
        pair.candidate,
        pair.baseline,
        weights_within(pair.folds, pair.groups, comparison.resamples, comparison.seed),
        float(values["candidate_expected"]) - float(values["baseline_expected"]),
        CONFIDENCE,
    )
    passed = interval.high < margin
    found = {"difference": interval.estimate, "low": interval.low, "high": interval.high, "margin": margin}
    told = " and ".join(
        f"{values[name]:.3f} ({values[f'{name}_expected']:.3f} expected of a perfect model{_curve(values, name)})"
        for name in both
    )
    chance = chance_of_an_equal(margin, (interval.high - interval.estimate) / REACH)
    return Verdict(
        passed=passed,
        limit=f"upper bound < {margin:g}",
        sentence=f"Calibration error of candidate and baseline {told}: a difference in excess of {interval.in_words}; "
        f"a rise of {margin:g} or more is {'ruled out' if passed else 'not ruled out'}.",
        values=values | found,
        power=f"An equal model passes in {in_percent(chance)}.",
    )


def _expected(comparison: Comparison, probabilities: npt.NDArray[np.float64]) -> float:
    return expected_error(probabilities, comparison.pair.groups, comparison.resamples, comparison.seed)


def _curve(values: dict[str, float | int | str], name: str) -> str:
    slope, intercept = (float(values[f"{name}_{what}"]) for what in ("slope", "intercept"))
    return "" if math.isnan(slope) else f"; slope {slope:.2f}, intercept {intercept:+.2f}"
