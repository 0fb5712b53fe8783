"""A metric at a place beside what a package claims of it, and the verdict that follows from several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from bus_mlops.consumer.local_statistics import NOTHING, Estimate, difference
from bus_mlops.consumer.package_format import JudgedNumber

if TYPE_CHECKING:
    from bus_mlops.consumer.client import BusModel

Verdict = Literal["holds", "holds after recalibration", "does not hold", "too few cases to tell", "no claim"]
Found = Literal["holds", "falls", "open"]

# With fewer cases of a label nothing is said, whatever the numbers.
FEWEST_CASES = 10
ROC_AUC, SENSITIVITY, SPECIFICITY = "roc_auc", "sensitivity", "specificity"
CLAIMS = (ROC_AUC, SENSITIVITY, SPECIFICITY)


@dataclass(frozen=True)
class Compared:
    """A metric here beside its claim; `gap` is the one minus the other, NaN without a claim."""

    metric: str
    here: Estimate
    claimed: Estimate
    gap: Estimate
    found: Found


def claims_of(model: BusModel) -> dict[str, Estimate]:
    """What a package says it was judged at on test images, by metric; NaN of what it does not say."""
    judged = model.package.judged
    numbers = judged.numbers if judged else {}
    return {metric: _claim(numbers.get(metric)) for metric in CLAIMS}


def _claim(number: JudgedNumber | None) -> Estimate:
    if number is None or number.low is None or number.high is None:
        return NOTHING
    return Estimate(number.estimate, number.low, number.high)


def compared(found: dict[str, Estimate], claims: dict[str, Estimate], margin: float) -> tuple[Compared, ...]:
    """Each claimed metric beside its claim; `margin` is the fall (fraction) that must be ruled out."""
    lines = []
    for metric in CLAIMS:
        gap = difference(found[metric], claims[metric])
        said: Found = "holds" if gap.low > -margin else "falls" if gap.high < 0 else "open"
        lines.append(Compared(metric, found[metric], claims[metric], gap, said))
    return tuple(lines)


def verdict(
    shipped: tuple[Compared, ...],
    local: tuple[Compared, ...],
    judged_with: int | None,
    of_case: npt.NDArray[Any],
    margin: float,
) -> tuple[Verdict, tuple[str, ...]]:
    """By the first rule that fits; docs/how-to/judge-on-an-external-cohort.md states them."""
    reasons = [_in_words(each, margin) + _needed(each, margin) for each in shipped]
    fewest = min(int(of_case.sum()), int((1 - of_case).sum()))
    if all(math.isnan(each.claimed.value) for each in shipped):
        return "no claim", ("its package does not say what it was judged at, so there is nothing to hold it to",)
    if fewest < FEWEST_CASES:
        return "too few cases to tell", (f"{fewest} cases of the rarer label; {FEWEST_CASES} are needed", *reasons)
    area = next(each for each in shipped if each.metric == ROC_AUC)
    after = [each for each in local if each.metric != ROC_AUC]
    reasons += [f"at thresholds fitted to {judged_with} local cases: {_in_words(each, margin)}" for each in after]
    if area.found == "falls":
        return "does not hold", (*reasons, "it tells the labels apart less well here, which no threshold mends")
    if all(each.found == "holds" for each in shipped):
        return "holds", tuple(reasons)
    if after and all(each.found == "holds" for each in (area, *after)):
        return "holds after recalibration", tuple(reasons)
    if any(each.found == "falls" for each in shipped) and any(each.found == "falls" for each in after):
        return "does not hold", tuple(reasons)
    return "too few cases to tell", tuple(reasons)


def _in_words(each: Compared, margin: float) -> str:
    name = {ROC_AUC: "ROC AUC", SENSITIVITY: "sensitivity", SPECIFICITY: "specificity"}[each.metric]
    if math.isnan(each.gap.value):
        return f"{name} {each.here}; its package claims nothing of it"
    said = {
        "holds": f"a fall by {margin:g} or more is ruled out",
        "falls": "it falls",
        "open": f"neither is a fall shown, nor one by {margin:g} ruled out",
    }[each.found]
    return f"{name} {each.here}, claimed {each.claimed}: {said}"


def _needed(each: Compared, margin: float) -> str:
    """How many times as many cases would tell, were the model as good here as it claims; "" where it is told."""
    if each.found != "open":
        return ""
    own, claim = each.here.value - each.here.low, each.claimed.high - each.claimed.value
    if claim >= margin:
        return f" (the claim itself is unsure by {claim:.3f}: no number of cases would do)"
    times = own**2 / (margin**2 - claim**2)
    return f" (about {math.ceil(10 * times) / 10:g} times as many cases would tell)" if times > 1 else ""
