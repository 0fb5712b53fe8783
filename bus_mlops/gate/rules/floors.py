"""G1, floors: a candidate that misses too much is no candidate, however bad the baseline is."""

from __future__ import annotations

from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.evaluation.intervals import bootstrap_interval
from bus_mlops.gate.comparison import CONFIDENCE, Comparison
from bus_mlops.gate.rule import Verdict, rule


class FloorLimits(Strict):
    """Fractions that the lower bounds must reach."""

    minimum_sensitivity: float = Field(default=0.8, ge=0, le=1, description="of the lower 95 % bound")
    minimum_specificity: float = Field(default=0.7, ge=0, le=1, description="of the lower 95 % bound")


@rule("G1", "floors")
def floors(comparison: Comparison, limits: FloorLimits) -> Verdict:
    """The clustered 95 % intervals of sensitivity and specificity lie above their floors."""
    test = comparison.candidate.test
    values: dict[str, float | int | str] = {}
    passed, said = True, []
    least = {"sensitivity": limits.minimum_sensitivity, "specificity": limits.minimum_specificity}
    for name, floor in least.items():
        interval = bootstrap_interval(
            name,
            test["label"].to_numpy(),
            test["probability"].to_numpy(),
            test["group"].to_numpy(),
            threshold=test["threshold"].to_numpy(),
            resamples=comparison.resamples,
            confidence=CONFIDENCE,
            seed=comparison.seed,
        )
        values |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_floor": floor}
        passed = passed and interval.low >= floor
        said.append(
            f"{name} {interval.estimate:.3f}, lower 95 % bound {interval.low:.3f}, "
            + (f"floor {floor:.3f}" if floor > 0 else "no floor set")
        )
    limit = "lower 95 % bounds: " + ", ".join(f"{name} >= {floor:g}" for name, floor in least.items())
    sentence = "; ".join(said)
    return Verdict(passed, limit, sentence[0].upper() + sentence[1:] + ".", values)
