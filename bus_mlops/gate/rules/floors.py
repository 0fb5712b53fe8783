"""G1, floors: a candidate that misses too much is no candidate, however bad the baseline is."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.evaluation.intervals import bootstrap_values, opened, percentiles
from bus_mlops.evaluation.metric import validated
from bus_mlops.evaluation.resampling import GroupWeights, weights_within
from bus_mlops.gate.chances import chance_over_floor, in_percent
from bus_mlops.gate.comparison import CONFIDENCE, Comparison
from bus_mlops.gate.rule import Verdict, rule

# What the paper reports of MT-ESTAN (Table 9).
PAPER = {"sensitivity": 0.904, "specificity": 0.898}


class FloorLimits(Strict):
    """Fractions that the lower bounds must reach."""

    minimum_sensitivity: float = Field(
        default=0.8, ge=0, le=1, description="what the lower 95 % bound must reach [fraction]"
    )
    minimum_specificity: float = Field(
        default=0.7, ge=0, le=1, description="what the lower 95 % bound must reach [fraction]"
    )


@rule("G1", "floors")
def floors(comparison: Comparison, limits: FloorLimits) -> Verdict:
    """The clustered 95 % intervals of sensitivity and specificity lie above their floors.

    Where all are right no resample differs, and the bound is Wilson's for the groups of the class.
    """
    test = comparison.candidate.test
    y, p = validated(test["label"].to_numpy(), test["probability"].to_numpy())
    thresholds, groups = test["threshold"].to_numpy(), test["group"].to_numpy(str)
    weights = weights_within(test["fold"].to_numpy(), groups, comparison.resamples, comparison.seed)
    values: dict[str, float | int | str] = {}
    passed, chance, said, counts = True, 1.0, [], []
    least = {"sensitivity": limits.minimum_sensitivity, "specificity": limits.minimum_specificity}
    for label, name in ((1, "sensitivity"), (0, "specificity")):
        drawn = bootstrap_values(name, y, p, weights, thresholds)
        low, _, _ = percentiles(drawn, CONFIDENCE)
        value = float(bootstrap_values(name, y, p, GroupWeights.identity(y.size), thresholds)[0])
        low, _ = opened(value, low, 1.0, np.unique(groups[y == label]).size, CONFIDENCE)
        values |= {name: value, f"{name}_low": low, f"{name}_floor": least[name]}
        passed = passed and low >= least[name]
        floor = f"floor {least[name]:.3f}" if least[name] > 0 else "no floor set"
        said.append(f"{name} {value:.3f}, lower 95 % bound {low:.3f}, {floor}")
        worth = _worth(value, float(np.nanvar(drawn)), groups[y == label])
        chance *= chance_over_floor(PAPER[name], least[name], worth)
        counts.append(f"{int((y == label).sum())} {'malignant' if label else 'benign'}")
    limit = "lower 95 % bounds: " + ", ".join(f"{name} >= {floor:g}" for name, floor in least.items())
    sentence = "; ".join(said)
    return Verdict(
        passed,
        limit,
        sentence[0].upper() + sentence[1:] + ".",
        values,
        f"A model as good as the paper's (sensitivity .904, specificity .898) passes with {' and '.join(counts)} "
        f"images in {in_percent(chance)}.",
    )


def _worth(rate: float, variance: float, groups: npt.NDArray[np.str_]) -> float:
    """How many independent images those of a class are worth: by the bootstrap's variance of their rate.

    At most as many as there are, and at least what they are worth if those of a group are always right together.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    least = sizes.sum() ** 2 / (sizes**2).sum()
    seen = rate * (1 - rate) / variance if variance > 0 else math.nan
    return float(least if math.isnan(seen) else np.clip(seen, least, sizes.sum()))
