"""G3, non-inferior sensitivity: a larger area must not be paid for with missed cancers."""

from __future__ import annotations

from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.chances import chance_of_an_equal, in_percent
from bus_mlops.gate.comparison import CONFIDENCE, Comparison
from bus_mlops.gate.rule import Verdict, rule

COLUMN = "threshold_at_specificity"


class SensitivityLimits(Strict):
    """The loss of sensitivity (fraction) that must be ruled out, and where both sensitivities are taken."""

    sensitivity_margin: float = Field(
        default=0.05, ge=0, lt=1, description="a loss this large must be ruled out [fraction]"
    )
    at_specificity: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="the specificity where both sensitivities are taken, on validation parts [fraction]",
    )


@rule("G3", "non-inferior sensitivity")
def sensitivity(comparison: Comparison, limits: SensitivityLimits) -> Verdict:
    """At thresholds of the same specificity, sensitivity is not worse than the baseline's by the margin.

    The mean over folds of the difference between what the two models answer; the interval covers other cases and, with
    several seeds, other trainings and the thresholds that they would choose.
    """
    margin, target = limits.sensitivity_margin, limits.at_specificity
    if comparison.at_specificity != target:
        raise EvaluationError(
            f"thresholds were chosen at a specificity of {comparison.at_specificity:g}, not {target:g}"
        )
    found = comparison.difference("sensitivity", threshold=COLUMN)
    low, high = found.interval(CONFIDENCE)
    passed = low > -margin
    reached = [
        METRICS["specificity"].value(*(each.test[name].to_numpy() for name in ("label", "probability", COLUMN)))
        for each in (comparison.candidate, comparison.baseline)
    ]
    seeds = "" if comparison.has_seeds else " With one seed the interval does not cover other trainings."
    return Verdict(
        passed=passed,
        limit=f"lower bound > {-margin:g}",
        sentence=f"At thresholds of {100 * target:g} % specificity on validation ({100 * reached[0]:.1f} and "
        f"{100 * reached[1]:.1f} % on test) the difference in sensitivity is {found.estimate:+.3f} (95 % interval "
        f"{low:+.3f} to {high:+.3f}); a loss of {margin:g} or more is {'' if passed else 'not '}ruled out.{seeds}",
        values={
            "difference": found.estimate,
            "low": low,
            "high": high,
            "margin": margin,
            "at_specificity": target,
            "specificity": reached[0],
            "baseline_specificity": reached[1],
            "case_error": found.case_error,
            "seed_error": found.seed_error,
        },
        power="An equal model passes in "
        f"{in_percent(chance_of_an_equal(margin, found.standard_error, found.degrees_of_freedom))}.",
    )
