"""What the gate can see with the images at hand, told before anything is trained: chances, and what would be needed.

The model behind it is that of `power_scores`; `docs/explanation/power-of-the-gate.md` compares it with a simulation
through the rules themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bus_mlops.errors import EvaluationError
from bus_mlops.gate.look import PastLook, next_look
from bus_mlops.gate.power_calibration import Rise, rise_of
from bus_mlops.gate.power_cohort import Cohort
from bus_mlops.gate.power_rules import REACH, Chances, Limits, chances
from bus_mlops.gate.power_scores import SENSITIVITY, SPECIFICITY, Pair, area_of, fold_moments
from bus_mlops.gate.rule import id_of
from bus_mlops.gate.rules.calibration import calibration
from bus_mlops.gate.rules.floors import floors
from bus_mlops.gate.rules.sensitivity import sensitivity
from bus_mlops.gate.rules.sources import sources
from bus_mlops.gate.rules.superiority import superiority

# Table 9 of the paper: sensitivity and specificity of MT-ESTAN, and of the best other approach (Zhang et al.).
PAPERS_BEST, PAPERS_OTHER = (0.904, 0.898), (0.814, 0.914)
# A baseline's true area where nobody says another: below the paper's best other approach (.945), as small networks are.
USUAL_AREA = 0.91
GAINS = (0.0, 0.01, 0.02, 0.03, 0.05)
SIZES = (220, 647, 1200, 1805, 3641)
LOOKS = 5
# Of what is left of alpha, spent by a look, where `promotion` does not say.
SHARE = 0.6
HEADLINE = 0.03
ADVISED_FOLDS, ADVISED_SEEDS = 5, 3
# Below these chances a rule cannot be passed, and is more likely to refuse than to pass.
IMPOSSIBLE, UNLIKELY, ENOUGH = 0.05, 0.5, 0.8
WHOLE = "all"
# As reports call the rules.
FLOORS, SUPERIORITY, SENSITIVE = id_of(floors), id_of(superiority), id_of(sensitivity)
SOURCES, CALIBRATION = id_of(sources), id_of(calibration)
# Of the first column of a table, in characters: what is printed fits 56.
WIDTH = 16
BY = f"by {SUPERIORITY} / by the whole gate"
# What is tried of a cohort, to say how many images a rule needs.
FACTORS = tuple(float(f) for f in np.geomspace(1 / 8, 12, 20))


@dataclass(frozen=True)
class Row:
    """The chances (fractions) that a true gain is found with so many images: by the rule on superiority, and by all."""

    images: int
    malignant: int
    superior: tuple[float, ...]
    gate: tuple[float, ...]


@dataclass(frozen=True)
class LaterLook:
    """What a look may spend, and the chances (fractions) that superiority, and all rules, find the headline's gain."""

    number: int
    level: float
    superior: float
    gate: float


@dataclass(frozen=True)
class RuleChance:
    """One rule, or one of its parts, on the cohort at hand.

    Attributes:
        rule: Its id; `part` what of it.
        paper: Chance that a model as good as the paper's MT-ESTAN passes, against the paper's best other approach.
        equal: The same of a model that equals that baseline.
        malignant: Images that the former needs to pass in 80 %; None where none of those tried are enough.
        benign: Likewise.
        malignant_equal: The same for the latter.
        benign_equal: Likewise.
        said: What else there is to say.
    """

    rule: str
    part: str
    paper: float
    equal: float
    malignant: int | None
    benign: int | None
    malignant_equal: int | None
    benign_equal: int | None
    said: str = ""

    @property
    def verdict(self) -> str:
        """What a user must know before training; "" where a model as good as the paper's mostly passes."""
        if self.paper >= UNLIKELY:
            return ""
        state = "cannot be passed" if self.paper < IMPOSSIBLE else "will more probably refuse than pass"
        needs = (
            f"80 % need about {self.malignant:,} malignant and {self.benign:,} benign ones"
            if self.malignant and self.benign
            else "more images alone will not do" + (f" ({self.said})" if self.said else "")
        )
        return (
            f"{self.rule} ({self.part}) {state} with these images: a model as good as the paper's MT-ESTAN passes it "
            f"in {100 * self.paper:.0f} %; {needs}."
        )


@dataclass(frozen=True)
class PowerReport:
    """What the gate can see with a cohort."""

    cohort: Cohort
    metric: str
    area: float
    rows: tuple[Row, ...]
    looks: tuple[LaterLook, ...]
    rules: tuple[RuleChance, ...]

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        found = self.rows[0].gate[GAINS.index(HEADLINE)]
        return (
            f"With {self.cohort.in_words}, the gate finds a true gain of {_signed(HEADLINE)} in {100 * found:.0f} % of "
            "first looks."
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot be passed, or hardly, for whoever is about to train."""
        return _warnings(self.rules)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fractions."""
        values = asdict(self) | {"gains": GAINS, "headline": self.headline, "warnings": self.warnings}
        values["cohort"] |= {"images": self.cohort.images, "malignant": self.cohort.malignant}
        return values

    def to_lines(self) -> list[str]:
        """For a terminal: words first, then the tables."""
        return [*self._in_words(), "", *self._gains(), "", *self._looks(), "", *self._rules()]

    def _in_words(self) -> list[str]:
        lines = [self.headline, *self.warnings]
        if not self.warnings:
            lines.append(
                "No rule is out of reach: a model as good as the paper's MT-ESTAN passes each more often than not."
            )
        lines.append(
            f"Supposed: a baseline with a true area under the ROC curve of {_plain(self.area)} (--area), and scores as "
            "alike as two networks' on BUSI. A true gain is that of the ensembles over the seeds."
        )
        if self.metric != "roc_auc":
            lines.append(f"promotion.metric is {self.metric}, but what follows is said of the area (roc_auc).")
        return lines

    def _gains(self) -> list[str]:
        lines = [
            "True gains that are found with so many images (malignant), in % of first looks (p < "
            f"{self.looks[0].level:g}): {BY}",
            "  images".ljust(WIDTH) + "".join(f"{_signed(gain) if gain else 'none':>8}" for gain in GAINS),
        ]
        for row in self.rows:
            cells = (f"{100 * a:.0f}/{100 * b:.0f}" for a, b in zip(row.superior, row.gate, strict=True))
            images = f"{row.images:>7,} ({row.malignant:,})"
            lines.append(images.ljust(WIDTH) + "".join(f"{cell:>8}" for cell in cells))
        return lines

    def _looks(self) -> list[str]:
        gain = _signed(HEADLINE)
        lines = [f"Later looks at the same test images, {gain}, if none before has promoted: {BY}"]
        for each in self.looks:
            found = f"{100 * each.superior:.0f}/{100 * each.gate:.0f}" if each.level else "nothing is left to spend"
            lines.append(f"  look {each.number}: p < {each.level:.2g}".ljust(24) + f"{found:>8}")
        return lines

    def _rules(self) -> list[str]:
        lines = [
            "Rules with your images, in %: a model as good as the paper's MT-ESTAN / one that equals the baseline, and "
            "the malignant+benign images that either needs to pass in 80 %",
        ]
        for each in self.rules:
            name = f"  {each.rule} {each.part}".ljust(30)
            needs = " / ".join(
                f"{malignant:,}+{benign:,}" if malignant and benign else "-"
                for malignant, benign in ((each.malignant, each.benign), (each.malignant_equal, each.benign_equal))
            )
            lines.append(f"{name}{100 * each.paper:>4.0f}/{100 * each.equal:<5.0f}{needs}".rstrip())
            lines += [f"     {each.said}"] if each.said else []
        return lines


def power_report(cohort: Cohort, promotion: Mapping[str, Any], area: float = USUAL_AREA) -> PowerReport:
    """What the gate can see with a cohort under the limits of `promotion`.

    Args:
        cohort: The images to be judged on.
        promotion: The keys of that section of `params.yaml`; one that is not there has its default.
        area: The baseline's true area under the ROC curve, between .5 and .94.

    Raises:
        EvaluationError: The area leaves no room for a gain of .05.
    """
    if not 0.5 < area <= 0.94:
        raise EvaluationError(f"--area must be above 0.5 and at most 0.94, so that .05 can be gained, but is {area:g}.")
    limits = Limits.of(promotion)
    levels = _levels(promotion)
    rise = rise_of(cohort, Pair(area + HEADLINE, area))
    sizes = (cohort.images, *(size for size in SIZES if size != cohort.images and _fits(cohort, size)))
    rows = tuple(_row(cohort.resized(size), area, limits, levels[0], rise) for size in sizes)
    looks = tuple(
        LaterLook(number, level, found.superiority, found.gate)
        for number, level in enumerate(levels, 1)
        for found in (chances(cohort, Pair(area + HEADLINE, area), limits, level, rise),)
    )
    metric = str(promotion.get("metric", "roc_auc"))
    return PowerReport(cohort, metric, area, rows, looks, _rule_chances(cohort, limits, levels[0]))


def out_of_reach(cohort: Cohort, promotion: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each rule that a model as good as the paper's MT-ESTAN will more probably fail than pass."""
    return _warnings(_rule_chances(cohort, Limits.of(promotion), _levels(promotion)[0]))


def power_levels(promotion: Mapping[str, Any]) -> tuple[float, float]:
    """Alpha, and the share of what is left of it that a look spends, as `promotion` has them."""
    return float(promotion.get("alpha", 0.05)), float(promotion.get("look_share", SHARE))


def _levels(promotion: Mapping[str, Any]) -> list[float]:
    """What each look may spend, as long as none promotes."""
    past: list[PastLook] = []
    for _ in range(LOOKS):
        past.append(PastLook(next_look(past, *power_levels(promotion)).level))
    return [each.level for each in past]


def _warnings(rules: Sequence[RuleChance]) -> tuple[str, ...]:
    return tuple(each.verdict for each in rules if each.verdict and each.rule != WHOLE)


def _fits(cohort: Cohort, images: int) -> bool:
    factor = images / cohort.images
    return min(cohort.malignant, cohort.benign) * factor >= 2 * cohort.folds


def _row(cohort: Cohort, area: float, limits: Limits, level: float, rise: Rise) -> Row:
    found = [chances(cohort, Pair(area + gain, area), limits, level, rise) for gain in GAINS]
    return Row(
        cohort.images, cohort.malignant, tuple(each.superiority for each in found), tuple(each.gate for each in found)
    )


def _rule_chances(cohort: Cohort, limits: Limits, level: float) -> tuple[RuleChance, ...]:
    best, other = area_of(*PAPERS_BEST), area_of(*PAPERS_OTHER)
    pairs = Pair(best, other), Pair(other, other)
    rises = [rise_of(cohort, pair) for pair in pairs]
    here = [chances(cohort, pair, limits, level, rise) for pair, rise in zip(pairs, rises, strict=True)]
    tried = [cohort.resized(round(f * cohort.images)) for f in FACTORS if _fits(cohort, round(f * cohort.images))]
    found = [
        [chances(each, pair, limits, level, rise) for each in tried] for pair, rise in zip(pairs, rises, strict=True)
    ]
    bounds = _bounds(cohort, pairs[0])

    def one(rule: str, part: str, of: Callable[[Chances], float], said: str = "") -> RuleChance:
        needed = [_needed(tried, [of(each) for each in series]) for series in found]
        return RuleChance(rule, part, of(here[0]), of(here[1]), *needed[0], *needed[1], said)

    lowest = limits.floors
    return (
        one(
            FLOORS,
            f"sensitivity >= {lowest.minimum_sensitivity:g}",
            lambda each: each.floor_of_sensitivity,
            f"the paper's {_plain(PAPERS_BEST[0])} has a lower bound near {_plain(bounds[0])}",
        ),
        one(
            FLOORS,
            f"specificity >= {lowest.minimum_specificity:g}",
            lambda each: each.floor_of_specificity,
            f"the paper's {_plain(PAPERS_BEST[1])}: near {_plain(bounds[1])}",
        ),
        one(
            SUPERIORITY,
            f"superiority, {_signed(pairs[0].gain)}",
            lambda each: each.superiority,
            _more_trainings(cohort, pairs[0], limits, level),
        ),
        one(
            SENSITIVE,
            f"a loss of {limits.sensitivity.sensitivity_margin:g} ruled out",
            lambda each: each.lost_sensitivity,
        ),
        one(
            SOURCES,
            f"no source falls by {limits.sources.source_margin:g}",
            lambda each: each.sources,
            _undecided(cohort, limits),
        ),
        one(
            CALIBRATION, f"a rise of {limits.calibration.calibration_margin:g} ruled out", lambda each: each.calibration
        ),
        one(WHOLE, "rules", lambda each: each.gate),
    )


def _needed(tried: Sequence[Cohort], found: Sequence[float]) -> tuple[int | None, int | None]:
    """Malignant and benign images of the smallest cohort from which on the chance is high enough."""
    short = [place for place, chance in enumerate(found) if chance < ENOUGH]
    first = short[-1] + 1 if short else 0
    return (None, None) if first == len(tried) else (tried[first].malignant, tried[first].benign)


def _bounds(cohort: Cohort, pair: Pair) -> tuple[float, float]:
    """Where the lower 95 % bounds of sensitivity and specificity lie in the mean."""
    rates = fold_moments(cohort, pair).mean[[SENSITIVITY, SPECIFICITY]]
    images = np.array([cohort.malignant, cohort.benign])
    low = rates - REACH * np.sqrt(rates * (1 - rates) * cohort.design_effect / images)
    return float(low[0]), float(low[1])


def _undecided(cohort: Cohort, limits: Limits) -> str:
    needed = limits.sources.source_malignant
    small = [
        f"{name} ({each.malignant_cases} malignant, {each.benign_cases} benign cases)"
        for name, each in cohort.sources.items()
        if min(each.malignant_cases, each.benign_cases) < needed
    ]
    return f"too small to decide, {needed} of each are needed: {', '.join(small)}" if small else ""


def _more_trainings(cohort: Cohort, pair: Pair, limits: Limits, level: float) -> str:
    """What the usual advice would do to superiority, where it is not followed yet."""
    folds, seeds = max(ADVISED_FOLDS, cohort.folds), max(ADVISED_SEEDS, cohort.seeds)
    if (folds, seeds) == (cohort.folds, cohort.seeds):
        return ""
    # Of what is outside a test part, as much is for validation.
    validation = cohort.validation * (1 - 1 / folds) / (1 - 1 / cohort.folds)
    found = chances(replace(cohort, folds=folds, seeds=seeds, validation=validation), pair, limits, level)
    return f"{folds} folds x {seeds} seeds: {100 * found.superiority:.0f} %"


def _plain(value: float) -> str:
    return f"{value:.3f}".lstrip("0").rstrip("0")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("0.", ".").rstrip("0")
