"""G4, every source: what is better on the whole must not be worse in one hospital."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, field_validator

from bus_mlops.config.base import Strict
from bus_mlops.config.data import SourceName
from bus_mlops.evaluation.clustered_test import chance_to_find
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.chances import in_percent
from bus_mlops.gate.comparison import Comparison, pair_of
from bus_mlops.gate.rule import Verdict, rule

# Standard errors that a 95 % interval reaches to either side.
REACH = 1.959964


class SourceLimits(Strict):
    """How far (fraction) the metric may fall in a source, and which sources are large enough to decide."""

    source_margin: float = Field(
        default=0.05, ge=0, lt=1, description="no source may fall by more than this, in the metric [fraction]"
    )
    source_margins: dict[SourceName, float] = Field(
        default_factory=dict, description="sources with a margin of their own [fraction]"
    )
    source_malignant: int = Field(
        default=30, ge=1, description="malignant cases, with fewer of which a source is reported only [cases]"
    )

    @field_validator("source_margins")
    @classmethod
    def _margins(cls, margins: dict[str, float]) -> dict[str, float]:
        for source, margin in margins.items():
            if not 0 <= margin < 1:
                raise ValueError(f"promotion.source_margins.{source} must be at least 0 and below 1 but got {margin}")
        return margins


@rule("G4", "every source")
def sources(comparison: Comparison, limits: SourceLimits) -> Verdict:
    """In no source does the metric get worse by more than the source's margin.

    The point estimate decides: one source is too small to rule a fall out. A source with few malignant (or few
    benign) cases is reported only.
    """
    metric = comparison.metric
    what = "Difference" if METRICS.get_known(metric).direction > 0 else "Improvement"
    values: dict[str, float | int | str] = {}
    said, fallen, chance = [], [], 1.0
    for source, rows in comparison.paired.groupby("source", sort=True):
        name, pair = str(source), pair_of(rows)
        margin = limits.source_margins.get(name, limits.source_margin)
        cases = {label: int(rows.loc[rows["label"] == label, "case_id"].nunique()) for label in (0, 1)}
        values |= {f"{name}_malignant": cases[1], f"{name}_benign": cases[0]}
        if min(cases.values()) < limits.source_malignant:
            said.append(f"{name} has too few cases to decide ({cases[1]} malignant, {cases[0]} benign)")
            if min(cases.values()) < 2:
                continue
            values[f"{name}_difference"] = pair.difference(metric)
            said[-1] += f", seen {values[f'{name}_difference']:+.3f}"
            continue
        interval = pair.interval(metric, comparison.resamples, comparison.seed)
        values |= {f"{name}_difference": interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
        values[f"{name}_margin"] = margin
        error = math.hypot((interval.high - interval.low) / (2 * REACH), _seed_error(comparison, name))
        chance *= chance_to_find(margin, error, math.inf, 0.5)
        said.append(f"{name} {interval.in_words}")
        if interval.estimate < -margin:
            fallen.append(f"{name} falls by more than {margin:g}")
    margins = [f"{name} >= {-margin:g}" for name, margin in sorted(limits.source_margins.items())]
    return Verdict(
        passed=not fallen,
        limit="; ".join([f"each source >= {-limits.source_margin:g}", *margins]),
        sentence=f"{what} in {metric}: " + "; ".join(said + (fallen or ["no source falls by more"])) + ".",
        values=values,
        power=f"An equal model passes in {in_percent(chance)}.",
    )


def _seed_error(comparison: Comparison, source: str) -> float:
    """Of the difference in a source by what trainings drew; 0 with one seed, of which nobody knows it."""
    variance = 0.0
    for model in (comparison.candidate, comparison.baseline):
        rows = model.members[model.members["source"] == source]
        values = [
            METRICS[comparison.metric].value(*(seed[name].to_numpy() for name in ("label", "probability", "threshold")))
            for _, seed in rows.groupby("seed")
        ]
        if len(values) > 1:
            variance += float(np.var(values, ddof=1)) / int(model.test["networks"].min())
    return math.sqrt(variance)
