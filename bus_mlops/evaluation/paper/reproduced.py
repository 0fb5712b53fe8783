"""Reproduced or not: each row that the paper prints, beside ours, with a verdict by a rule that is stated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.dataset.benchmark import INFO_FILE
from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.published import contradictions, paper_row, paper_sources
from bus_mlops.evaluation.results import PlannedRow, resampling_ratio
from bus_mlops.evaluation.tidy import Evaluated
from bus_mlops.files import read_json

if TYPE_CHECKING:
    import pandas as pd

WITHIN, ABOVE, BELOW, NOT_COMPARABLE = "within what noise allows", "above", "below", "not comparable"
# What the paper calls AUC decides; its other two that are not functions of each other stand beside.
DECIDING = "balanced_accuracy"
REPRODUCED_METRICS = (DECIDING, "sensitivity", "specificity")
REPRODUCED_COLUMNS = (
    *("strategy", "model", "variant", "table", "metric"),
    *("paper", "ours", "difference", "noise", "verdict", "reason"),
)
RULE = (
    "A row counts as reproduced when its balanced accuracy (the paper's “AUC”) lies no further from the paper's than "
    "two studies of this size differ in 95 of 100 cases: the quantile of Student's t times the standard error of the "
    "corrected resampled t-test, times the square root of 2, since the paper prints no spread and its number is taken "
    "to be as uncertain as ours. It is compared only on the paper's sources, whole, without leaks, over two folds or "
    "more, and not with a row of the paper that contradicts itself."
)


def reproduced_table(evaluated: Evaluated) -> pd.DataFrame:
    """A line for each row with a number of the paper and each of `REPRODUCED_METRICS`; all numbers are fractions.

    `noise` is how far two studies of this size differ in 95 of 100 cases, see `RULE`; `verdict` one of `WITHIN`,
    `ABOVE`, `BELOW` and `NOT_COMPARABLE`, for which `reason` says why.
    """
    import pandas as pd

    about = read_json(evaluated.benchmark / INFO_FILE)
    cells = dict(iter(evaluated.by_fold.groupby(ROW)))
    records = []
    for strategy, planned in evaluated.plans.items():
        tables = {
            (str(each["model"]), str(each["variant"])): each for each in evaluated.tables[strategy].to_dict("records")
        }
        for row in planned:
            if row.paper is None or not row.classifies:
                continue
            reason = _incomparable(row, tables[row.model, row.variant], about)
            for metric in REPRODUCED_METRICS:
                values = cells[row.strategy, row.model, row.variant][metric].to_numpy(np.float64)
                records.append(_line(row, metric, values, evaluated.folds, reason))
    return pd.DataFrame.from_records(records, columns=list(REPRODUCED_COLUMNS))


def noise(values: np.ndarray, test_to_train: float) -> float:
    """How far the means of two such studies differ in 95 of 100 cases; values over (fold, seed), (k,), k 2 or more.

    >>> round(noise(np.array([0.80, 0.84, 0.82, 0.86, 0.83]), 0.25), 3)
    0.059
    """
    from scipy import stats

    error = values.std(ddof=1) * np.sqrt(1 / values.size + test_to_train)
    return min(1.0, float(stats.t.ppf(0.975, values.size - 1) * np.sqrt(2) * error))  # two shares differ by no more


def _line(row: PlannedRow, metric: str, values: np.ndarray, folds: pd.DataFrame, reason: str) -> dict[str, Any]:
    table, model, variant = row.paper or (0, "", "")
    published = (paper_row(table, model, variant) or {})[metric]
    ours = float(values.mean())
    band = noise(values, resampling_ratio(folds, row)) if values.size > 1 else float("nan")
    difference = round(METRICS[metric].direction * (ours - published), 9)
    verdict = WITHIN if abs(difference) <= band else ABOVE if difference > 0 else BELOW
    return {
        "strategy": row.strategy,
        "model": row.model,
        "variant": row.variant,
        "table": table,
        "metric": metric,
        "paper": published,
        "ours": ours,
        "difference": ours - published,
        "noise": band,
        "verdict": NOT_COMPARABLE if reason else verdict,
        "reason": reason,
    }


def _incomparable(row: PlannedRow, record: Mapping[Any, Any], benchmark: Mapping[str, Any]) -> str:
    """Why a row cannot be set against the paper's; empty where it can."""
    table, model, variant = row.paper or (0, "", "")
    missing = sorted(paper_sources(table) - set(row.cohort))
    added = sorted(set(row.cohort) - paper_sources(table))
    if benchmark["kind"] == "phantom":
        return "phantoms"
    if missing or added:
        return "; ".join(
            [*([f"without {', '.join(missing)}"] if missing else []), *([f"with {', '.join(added)}"] if added else [])]
        )
    if record["incomplete"]:
        return f"incomplete: {record['incomplete']}"
    if record["leaks"] and record["leaks"] == record["leaks"]:
        return f"{int(record['leaks'])} leakage groups in test and training parts"
    if len(row.folds) < 2:
        return "a single fold"
    found = contradictions(table, model, variant)
    return f"the paper's row contradicts itself: {'; '.join(found)}" if found else ""
