"""G5, calibration: probabilities go on meaning what they say."""

from __future__ import annotations

from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.gate.calibration_error import calibration_difference, calibration_error
from bus_mlops.gate.comparison import CONFIDENCE, Comparison
from bus_mlops.gate.rule import Verdict, rule


class CalibrationLimits(Strict):
    """The rise of the calibration error (fraction) that must be ruled out."""

    calibration_margin: float = Field(default=0.05, ge=0, lt=1, description="of the expected calibration error")


@rule("G5", "calibration")
def calibration(comparison: Comparison, limits: CalibrationLimits) -> Verdict:
    """The expected calibration error is not higher than the baseline's by the margin."""
    pair, margin = comparison.pair, limits.calibration_margin
    interval = calibration_difference(
        pair.labels, pair.candidate, pair.baseline, pair.groups, comparison.resamples, CONFIDENCE, comparison.seed
    )
    errors = calibration_error(pair.labels, pair.candidate), calibration_error(pair.labels, pair.baseline)
    passed = interval.high < margin
    return Verdict(
        passed=passed,
        limit=f"upper bound < {margin:g}",
        sentence=f"Expected calibration error {errors[0]:.3f} against {errors[1]:.3f}: a difference of "
        f"{interval.in_words}; a rise of {margin:g} or more is {'ruled out' if passed else 'not ruled out'}.",
        values={
            "candidate": errors[0],
            "baseline": errors[1],
            "difference": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "margin": margin,
        },
    )
