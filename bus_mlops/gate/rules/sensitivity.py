"""G3, non-inferior sensitivity: a larger area must not be paid for with missed cancers."""

from __future__ import annotations

from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.rule import Verdict, rule


class SensitivityLimits(Strict):
    """The loss of sensitivity (fraction) that must be ruled out."""

    sensitivity_margin: float = Field(default=0.05, ge=0, lt=1, description="non-inferiority")


@rule("G3", "non-inferior sensitivity")
def sensitivity(comparison: Comparison, limits: SensitivityLimits) -> Verdict:
    """Sensitivity is not worse than the baseline's by the margin (clustered paired bootstrap)."""
    interval = comparison.interval("sensitivity")
    margin = limits.sensitivity_margin
    passed = interval.low > -margin
    return Verdict(
        passed=passed,
        limit=f"lower bound > {-margin:g}",
        sentence=f"The difference in sensitivity is {interval.in_words}; "
        f"a loss of {margin:g} or more is {'ruled out' if passed else 'not ruled out'}.",
        values={"difference": interval.estimate, "low": interval.low, "high": interval.high, "margin": margin},
    )
