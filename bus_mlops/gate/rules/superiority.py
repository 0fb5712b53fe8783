"""G2, superiority: the primary metric of what ships, over folds and seeds, shared with the rivals of the decision."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.clustered_test import Difference, chance_to_find
from bus_mlops.evaluation.comparison import ResampledTest, corrected_resampled_test, holm
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.chances import in_percent
from bus_mlops.gate.comparison import CONFIDENCE, Comparison, Judged
from bus_mlops.gate.rule import Verdict, rule

# The gain whose chance to be found every verdict says.
GAIN = 0.03


class SuperiorityLimits(Strict):
    """How improbable the difference must be by chance, by which test, and in which words it is said."""

    test: Literal["clustered", "resampled_t", "bayesian"] = Field(
        default="clustered", description="of the difference in the metric"
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=1, description="p must be below it, or P(better) above 1 - alpha [probability]"
    )


@dataclass(frozen=True)
class _Found:
    """What either test says; differences are fractions, above 0 where the candidate is better."""

    difference: float
    standard_error: float
    case_error: float
    seed_error: float
    t: float
    degrees_of_freedom: float
    p_one_sided: float
    low: float
    high: float


@rule("G2", "superiority")
def superiority(comparison: Comparison, limits: SuperiorityLimits) -> Verdict:
    """The metric is better than the baseline's over folds and seeds; rivals of the decision share alpha (Holm).

    *clustered* judges what ships (docs/explanation/gate-statistics.md). With one seed there is no variance between
    seeds, and the corrected resampled t-test over folds takes its place. *resampled_t* is that test of the single
    networks of each (fold, seed). *bayesian* is *resampled_t* in other words: `p_better` is P(candidate is better) of
    the Bayesian correlated t-test with the usual improper prior (Corani and Benavoli, A Bayesian approach for comparing
    cross-validated algorithms, Machine Learning 100, 2015, eq. 11), one minus the one-sided p.
    """
    clustered = limits.test == "clustered" and comparison.has_seeds
    models = [comparison.candidate, *comparison.rivals]
    tests = [_clustered(comparison, model) if clustered else _resampled(comparison, model) for model in models]
    found, p = tests[0], holm([each.p_one_sided for each in tests])[0]
    look = comparison.context.look
    level = limits.alpha if look is None else look.level
    passed = p < level and found.difference > 0
    numbers = {name: value for name, value in asdict(found).items() if not math.isnan(value)}
    values = {**_means(comparison, clustered), **numbers, "candidates": len(tests)}
    values |= {"p_adjusted": p, "p_better": 1 - p, "level": level}
    limit, said = f"p < {level:.4g}", f"one-sided p = {p:.3f}"
    if limits.test == "bayesian":
        limit, said = f"P(better) > {1 - level:.4g}", f"P(better) = {1 - p:.3f}"
    if level <= 0:
        limit = "nothing is left of alpha"
    return Verdict(
        passed, limit, _sentence(comparison, limits, values, found, said, passed), values, _power(tests, level)
    )


def _clustered(comparison: Comparison, model: Judged) -> _Found:
    test: Difference = comparison.difference(comparison.metric, of=None if model is comparison.candidate else model)
    errors = (test.standard_error, test.case_error, test.seed_error)
    return _Found(test.estimate, *errors, test.t, test.degrees_of_freedom, test.p_one_sided, *test.interval(CONFIDENCE))


def _resampled(comparison: Comparison, model: Judged) -> _Found:
    """The test that a model's values, times the metric's direction, are higher, over the networks of (fold, seed)."""
    context, direction = comparison.context, METRICS.get_known(comparison.metric).direction
    ours, theirs = (each.metric_by_cell(comparison.metric) for each in (model, comparison.baseline))
    if set(ours) != set(theirs):
        raise EvaluationError("the models were not evaluated on the same (fold, seed) pairs")
    cells = sorted(ours)
    unknown = [fold for fold, _ in cells if fold not in context.n_test or fold not in context.n_train]
    if unknown:
        raise EvaluationError(f"the number of training or test images of fold {unknown[0]} is not known")
    ratios = [context.n_test[fold] / context.n_train[fold] for fold, _ in cells]
    test: ResampledTest = corrected_resampled_test(
        [direction * ours[cell] for cell in cells],
        [direction * theirs[cell] for cell in cells],
        test_to_train=sum(ratios) / len(ratios),
        confidence=CONFIDENCE,
    )
    unknown_parts = {"case_error": math.nan, "seed_error": math.nan}
    known = {name: getattr(test, name) for name in _Found.__dataclass_fields__ if name not in unknown_parts}
    return _Found(**known, **unknown_parts)


def _means(comparison: Comparison, clustered: bool) -> dict[str, float | int | str]:
    """The two values that are compared: of what ships, or of the networks alone."""
    both = (comparison.candidate, comparison.baseline)
    by = [
        each.metric_by_fold(comparison.metric) if clustered else each.metric_by_cell(comparison.metric) for each in both
    ]
    ours, theirs = (float(np.mean(list(each.values()))) for each in by)
    folds = len(comparison.candidate.metric_by_fold(comparison.metric))
    method = "clustered" if clustered else "resampled_t"
    return {
        "candidate": ours,
        "baseline": theirs,
        "folds": folds,
        "seeds": comparison.candidate.seeds,
        "method": method,
    }


def _sentence(
    comparison: Comparison,
    limits: SuperiorityLimits,
    values: dict[str, float | int | str],
    found: _Found,
    said: str,
    passed: bool,
) -> str:
    direction = METRICS.get_known(comparison.metric).direction
    seeds = f"{values['seeds']} seed{'' if values['seeds'] == 1 else 's'}"
    rivals = f" (Holm, {values['candidates']} candidates)" if comparison.rivals else ""
    sentence = (
        f"{comparison.metric} {values['candidate']:.3f} against {values['baseline']:.3f}: "
        f"{'a difference' if direction > 0 else 'lower is better, an improvement'} of {found.difference:+.3f} (95 % "
        f"interval {found.low:+.3f} to {found.high:+.3f}) over {values['folds']} folds x {seeds} of each, {said}"
        f"{rivals}; "
    ) + _why(comparison, passed, found.difference)
    if limits.test == "clustered" and not comparison.has_seeds:
        sentence += (
            " With one seed nobody knows how trainings differ, so the corrected resampled t-test over folds judged, "
            "which sees less: train with 3 seeds (`seeds` of the strategy in params.yaml)."
        )
    return sentence


def _why(comparison: Comparison, passed: bool, difference: float) -> str:
    look = comparison.context.look
    if look is not None and look.level <= 0:
        return f"nothing is left of alpha = {look.budget:g}: earlier looks at these test data spent {look.before:.3g}."
    if passed:
        return "more than chance explains."
    return "chance alone could explain it." if difference > 0 else "the candidate is not better."


def _power(tests: list[_Found], level: float) -> str:
    """Of the candidate's own test at its share of the level: what Holm asks of it where no rival is better."""
    if level <= 0:
        return ""
    chance = chance_to_find(GAIN, tests[0].standard_error, tests[0].degrees_of_freedom, level / len(tests))
    return f"Would have found +{GAIN:g} in {in_percent(chance)}.".replace("+0.", "+.")
