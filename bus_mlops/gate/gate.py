"""The gate between a trained candidate and the alias `champion`: every registered rule, on one comparison.

Pure: a comparison and limits in, a report out. Refusal is a normal result, not an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bus_mlops.gate.rules  # noqa: F401 - registers the rules
from bus_mlops.errors import EvaluationError
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.report import GateReport, RuleResult
from bus_mlops.gate.rule import Rule, in_order

__all__ = ["in_order", "run_gate"]


def run_gate(comparison: Comparison, limits: Mapping[str, Any], earlier: GateReport | None = None) -> GateReport:
    """Judge a candidate by all rules; one whose numbers cannot be computed fails and says why.

    Args:
        comparison: Candidate, baseline and rivals. Without a package, rules that judge one are left out.
        limits: The keys of `promotion` in `params.yaml`, of which each rule takes its own.
        earlier: A report on the same models, whose results stand, but for what was not judged: so a package adds its
            rules to it, and a look at external cohorts another.
    """
    known = {each.id: each for each in earlier.rules if each.judged} if earlier else {}
    applicable = [each for each in in_order() if comparison.package is not None or not each.needs_package]
    return GateReport(
        candidate=comparison.candidate.title,
        baseline=comparison.baseline.title,
        model_name=comparison.context.model_name,
        metric=comparison.metric,
        threshold=comparison.threshold,
        rules=tuple(known.get(each.id) or _result(each, comparison, limits) for each in applicable),
        notes=comparison.notes,
    )


def _result(rule: Rule, comparison: Comparison, limits: Mapping[str, Any]) -> RuleResult:
    # A rule that cannot be computed is a refusal with a reason, so that the report is always whole.
    try:
        verdict = rule.judge(comparison, rule.limits_of(limits))
    except EvaluationError as error:
        return RuleResult(rule.id, rule.title, {}, "computable", False, f"Could not be computed: {error}")
    return RuleResult(
        rule.id,
        rule.title,
        dict(verdict.values),
        verdict.limit,
        verdict.passed,
        verdict.sentence,
        verdict.power,
        verdict.judged,
    )
