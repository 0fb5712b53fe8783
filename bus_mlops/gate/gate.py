"""The gate between a trained candidate and the alias `champion`: rules G0 to G5 on out-of-fold predictions.

Pure: frames and context in, a report out. Refusal is a normal result, not an error. Rule G6 needs the package
itself: `clean_load.check_package`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bus_mlops.config import PromotionConfig
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.results import ROW
from bus_mlops.gate.inputs import GateContext, Lineage, judged_together
from bus_mlops.gate.integrity import check_integrity
from bus_mlops.gate.performance_rules import check_calibration, check_floors, check_sensitivity, check_sources
from bus_mlops.gate.report import GateReport, GateRule
from bus_mlops.gate.superiority import check_superiority

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GateContext", "GateReport", "GateRule", "Lineage", "run_gate"]


def run_gate(
    candidate: pd.DataFrame,
    baseline: pd.DataFrame,
    promotion: PromotionConfig,
    context: GateContext,
    rivals: Sequence[pd.DataFrame] = (),
) -> GateReport:
    """Judge a candidate against a baseline on their out-of-fold predictions (one table row each, any seeds).

    Probabilities are calibrated, and with `promotion.threshold` "youden" thresholds chosen, on the validation part
    of each (fold, seed), if all frames hold one; otherwise raw probabilities at 0.5, and a note says so. Only the
    test part is judged. `rivals` are other candidates of the same decision, with whom alpha is shared. A rule whose
    numbers cannot be computed fails and says why.
    """
    (ours, theirs, *others), threshold, notes = judged_together([candidate, baseline, *rivals], promotion)
    rules = [
        check_integrity(ours, theirs, promotion, context),
        _attempt("G1", "floors", lambda: check_floors(ours, promotion, context)),
        _attempt("G2", "superiority", lambda: check_superiority(ours, theirs, promotion, context, others)),
        _attempt("G3", "non-inferior sensitivity", lambda: check_sensitivity(ours, theirs, promotion, context)),
        _attempt("G4", "every source", lambda: check_sources(ours, theirs, promotion, context)),
        _attempt("G5", "calibration", lambda: check_calibration(ours, theirs, promotion, context)),
    ]
    return GateReport(
        candidate=_title(candidate),
        baseline=_title(baseline),
        model_name=context.model_name,
        metric=promotion.metric,
        threshold=threshold,
        rules=tuple(rules),
        notes=notes,
    )


def _title(frame: pd.DataFrame) -> str:
    return "/".join(str(frame[column].iloc[0]) for column in ROW)


def _attempt(identifier: str, title: str, rule: Callable[[], GateRule]) -> GateRule:
    # A rule that cannot be computed is a refusal with a reason, so that the report is always whole.
    try:
        return replace(rule(), id=identifier)
    except EvaluationError as error:
        return GateRule(identifier, title, {}, "computable", False, f"Could not be computed: {error}")
