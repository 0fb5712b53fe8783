"""G2, superiority: the primary metric over folds x seeds, corrected for overlapping training parts and for rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

import numpy as np
from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.comparison import ResampledTest, corrected_resampled_test, holm
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.comparison import CONFIDENCE, Comparison, GateContext
from bus_mlops.gate.rule import Verdict, rule
from bus_mlops.spec import CellKey


class SuperiorityLimits(Strict):
    """How improbable the difference must be by chance, and in which words it is said."""

    test: Literal["resampled_t", "bayesian"] = Field(
        default="resampled_t", description="of the difference in the metric"
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="p below it, or P(better) above 1 - alpha")


@rule("G2", "superiority")
def superiority(comparison: Comparison, limits: SuperiorityLimits) -> Verdict:
    """The metric is better than the baseline's over (fold, seed); rivals of the decision share alpha (Holm).

    `p_better` is P(candidate is better) of the Bayesian correlated t-test with the usual improper prior (Corani and
    Benavoli, A Bayesian approach for comparing cross-validated algorithms, Machine Learning 100, 2015, eq. 11): one
    minus the one-sided p of the corrected resampled t-test, another reading of the same evidence.
    """
    metric, context = comparison.metric, comparison.context
    direction = METRICS.get_known(metric).direction
    ours, theirs = (model.metric_by_cell(metric) for model in (comparison.candidate, comparison.baseline))
    test = _test(ours, theirs, context, direction)
    others = [rival.metric_by_cell(metric) for rival in comparison.rivals]
    rivals = [_test(other, theirs, context, direction).p_one_sided for other in others]
    p = holm([test.p_one_sided, *rivals])[0]
    passed = p < limits.alpha and test.difference > 0
    values: dict[str, float | int | str] = {
        "candidate": float(np.mean(list(ours.values()))),
        "baseline": float(np.mean(list(theirs.values()))),
        "folds": len({fold for fold, _ in ours}),
        "seeds": len({seed for _, seed in ours}),
        **{key: value for key, value in asdict(test).items() if key != "confidence"},
        "candidates": 1 + len(rivals),
        "p_adjusted": p,
        "p_better": 1 - p,
    }
    if limits.test == "bayesian":
        limit, found = f"P(better) > {1 - limits.alpha:g}", f"P(better) = {1 - p:.3f}"
    else:
        limit, found = f"p < {limits.alpha:g}", f"one-sided p = {p:.3f}"
    seeds = f"{values['seeds']} seed{'' if values['seeds'] == 1 else 's'}"
    sentence = (
        f"{metric} {values['candidate']:.3f} against {values['baseline']:.3f}: "
        f"{'a difference' if direction > 0 else 'lower is better, an improvement'} of "
        f"{test.difference:+.3f} (95 % interval {test.low:+.3f} to {test.high:+.3f}) over {values['folds']} folds x "
        f"{seeds} of each, {found}"
        + (f" (Holm, {1 + len(rivals)} candidates)" if rivals else "")
        + "; "
        + _why(passed, test.difference)
    )
    return Verdict(passed, limit, sentence, values)


def _test(
    ours: Mapping[CellKey, float], theirs: Mapping[CellKey, float], context: GateContext, direction: int
) -> ResampledTest:
    """The test that ours is better: that its values, times the metric's direction, are higher."""
    if set(ours) != set(theirs):
        raise EvaluationError("the models were not evaluated on the same (fold, seed) pairs")
    cells = sorted(ours)
    unknown = [fold for fold, _ in cells if fold not in context.n_test or fold not in context.n_train]
    if unknown:
        raise EvaluationError(f"the number of training or test images of fold {unknown[0]} is not known")
    ratios = [context.n_test[fold] / context.n_train[fold] for fold, _ in cells]
    return corrected_resampled_test(
        [direction * ours[cell] for cell in cells],
        [direction * theirs[cell] for cell in cells],
        test_to_train=sum(ratios) / len(ratios),
        confidence=CONFIDENCE,
    )


def _why(passed: bool, difference: float) -> str:
    if passed:
        return "more than chance explains."
    return "chance alone could explain it." if difference > 0 else "the candidate is not better."
