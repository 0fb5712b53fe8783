"""G7, external: the frozen package on images that no fold touches, where it must not fall behind the baseline."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

from pydantic import Field, field_validator

from bus_mlops.config.base import MetricName, Strict
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.intervals import Interval, bootstrap_interval
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.comparison import CONFIDENCE, Comparison, pair_of
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.gate.rule import Verdict, rule

SENSITIVITY, SPECIFICITY = "sensitivity", "specificity"
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


class ExternalLimits(Strict):
    """The losses (fractions) on a locked part or an external source that must be ruled out, and floors there."""

    external_margin: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="a fall of the metric by this much must be ruled out on what no fold touches [fraction]",
    )
    external_sensitivity_margin: float = Field(
        default=0.05, ge=0, lt=1, description="likewise of sensitivity [fraction]"
    )
    external_floors: dict[MetricName, float] = Field(
        default_factory=dict, description="what the candidate's own 95 % bound must reach there, by metric [fraction]"
    )

    @field_validator("external_floors")
    @classmethod
    def _floors(cls, floors: dict[str, float]) -> dict[str, float]:
        for metric, floor in floors.items():
            if not 0 <= floor <= 1:
                raise ValueError(f"promotion.external_floors.{metric} must lie between 0 and 1 but got {floor}")
        return floors


class _Found(NamedTuple):
    values: dict[str, float | int | str]
    said: str
    fallen: list[str]
    power: str


@rule("G7", "external", needs_package=True, exact=True)
def external(comparison: Comparison, limits: ExternalLimits) -> Verdict:
    """On each cohort that no fold touches, a fall behind the baseline by the margins is ruled out, and floors hold.

    Where there is no such cohort, or the candidate is refused without it, nothing is judged, and the verdict says so.
    """
    limit = _limit(comparison.metric, limits)
    cohorts = comparison.external
    if not cohorts:
        return Verdict(True, limit, "No external cohort: nothing outside the folds was judged.", judged=False)
    if closed := [each.closed for each in cohorts if each.closed]:
        return Verdict(False, limit, f"Not opened: {'; '.join(closed)}.", judged=False)
    unopened = [each.name for each in cohorts if each.answers is None]
    if unopened:
        why = (
            f"Not opened ({', '.join(unopened)}), and no look is spent: that takes a decision to promote a candidate "
            "that no other rule refuses."
        )
        return Verdict(True, limit, why, judged=False)
    found = [_judge(each, comparison, limits) for each in cohorts]
    fallen = [words for each in found for words in each.fallen]
    return Verdict(
        passed=not fallen,
        limit=limit,
        sentence="; ".join([*(each.said for each in found), *(fallen or ["no fall by a margin is left open"])]) + ".",
        values={name: value for each in found for name, value in each.values.items()},
        power=f"A candidate as good as the baseline would have passed: {'; '.join(each.power for each in found)}.",
    )


def _judge(cohort: ExternalCohort, comparison: Comparison, limits: ExternalLimits) -> _Found:
    rows = cohort.answers
    if rows is None or rows["label"].nunique() < 2:
        raise EvaluationError(f"{cohort.name} has no images of both labels, so nothing can be judged on it")
    answered = rows[["probability", "probability_baseline"]].notna().all(axis=1)
    if not answered.all():
        image = rows.loc[~answered, "image_id"].iloc[0]
        raise EvaluationError(f"{cohort.name}: {int((~answered).sum())} images have no answer, the first is {image}")
    name, metric = cohort.name, comparison.metric
    pair = pair_of(rows.assign(fold=1))  # no fold touches it: it is one
    values: dict[str, float | int | str] = {
        f"{name}_images": len(rows),
        f"{name}_malignant": int((rows["label"] == 1).sum()),
        f"{name}_related": cohort.related,
        f"{name}_digest": cohort.digest,
    }
    said, fallen, power = [], [], []
    for each, margin in {metric: limits.external_margin, SENSITIVITY: limits.external_sensitivity_margin}.items():
        found = pair.interval(each, comparison.resamples, comparison.seed)
        key = f"{name}_{each}_difference"
        values |= {key: found.estimate, f"{key}_low": found.low, f"{key}_high": found.high, f"{key}_margin": margin}
        said.append(f"{each} {found.in_words} from the baseline's")
        if not found.low > -margin:
            fallen.append(f"a fall of {each} by {margin:g} or more is not ruled out on {name}")
        power.append(f"{each} in {_passes(found, margin):.0%}")
    for each in dict.fromkeys((metric, SENSITIVITY, SPECIFICITY, *limits.external_floors)):
        own = _own(each, cohort, comparison)
        values |= {f"{name}_{each}": own.estimate, f"{name}_{each}_low": own.low, f"{name}_{each}_high": own.high}
        floor = limits.external_floors.get(each)
        if floor is None:
            continue
        values[f"{name}_{each}_floor"] = floor
        higher = METRICS.get_known(each).direction > 0
        bound = own.low if higher else own.high
        if not (bound >= floor if higher else bound <= floor):
            fallen.append(f"{each} on {name} has the 95 % bound {bound:.3f}, which does not reach {floor:g}")
    cases = rows["case_id"].nunique()
    left = f" without {cohort.related} near-duplicates of others" if cohort.related else ""
    head = f"{name} ({len(rows)} images of {cases} cases{left})"
    note = f" ({cohort.note})" if cohort.note else ""
    return _Found(values, f"{head}: {', '.join(said)}{note}", fallen, f"on {name} {', '.join(power)}")


def _own(metric: str, cohort: ExternalCohort, comparison: Comparison) -> Interval:
    """The candidate's own value with its interval; draws whole leakage groups."""
    rows = cohort.answers
    assert rows is not None  # noqa: S101 - it was looked at
    return bootstrap_interval(
        metric,
        rows["label"].to_numpy(),
        rows["probability"].to_numpy(),
        rows["group"].to_numpy(),
        threshold=rows["threshold"].to_numpy(),
        resamples=comparison.resamples,
        confidence=CONFIDENCE,
        seed=comparison.seed,
    )


def _passes(found: Interval, margin: float) -> float:
    """With what probability the bound of an interval this wide lies above -margin where there is no difference."""
    error = (found.high - found.low) / (2 * _Z)
    return NormalDist().cdf(margin / error - _Z) if error > 0 else 1.0


def _limit(metric: str, limits: ExternalLimits) -> str:
    margins = {metric: limits.external_margin, SENSITIVITY: limits.external_sensitivity_margin}
    bounds = [f"{each} > {-margin:g}" for each, margin in margins.items()]
    floors = [f"{each} reaches {floor:g}" for each, floor in sorted(limits.external_floors.items())]
    return "; ".join([f"lower bounds of differences: {', '.join(bounds)}", *floors])
