"""`results/headline.json`: a run of the pipeline in a line, for `dvc metrics` and `dvc exp show`.

Each name is a column there, and eight columns beside the file's path fit a terminal of 80 characters only where most
names have three letters at most.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bus_mlops.errors import EvaluationError
from bus_mlops.files import read_json

# Tables that the headline and the best row do not come from: what the paper does not have stands for itself.
APART = ("since_the_paper",)


def headline(results: Path) -> dict[str, float | int]:
    """The numbers that say what a try came to, from the files under `results`; three decimals.

    `best` is the highest mean ROC AUC of a row that stands for itself, but for tables that stand apart. Of the gate:
    `new` and `vs`, the metric that it judges by of candidate and baseline; `p` of superiority; `se` and `sp`,
    sensitivity and specificity of the candidate at its threshold; `gate`, 1 where it passed and 0 where it was refused.
    `show` counts the findings that show. What a profile has not (a candidate, a network that classifies) is left out.

    Raises:
        EvaluationError: The stage `evaluate` has not run.
    """
    tables, findings = results / "tables", results / "findings.json"
    if not findings.is_file():
        raise EvaluationError(f"{findings} is missing: run `dvc repro evaluate`.")
    areas = [float(row["roc_auc_mean"]) for row in _rows(tables) if row["roc_auc_mean"] and row["chosen"] != "False"]
    gate = results / "promotion" / "gate.json"
    values: dict[str, Any] = {"best": max(areas, default=None), **(_judged(read_json(gate)) if gate.is_file() else {})}
    values["show"] = sum(finding["verdict"] == "shown" for finding in read_json(findings))
    return {name: round(value, 3) for name, value in values.items() if value is not None}


def _rows(tables: Path) -> Iterable[dict[str, str]]:
    """The rows of the strategies' tables: other tables have no such column, and what is no row of one is no table."""
    for path in (each for each in sorted(tables.glob("*.csv")) if each.stem not in APART):
        with path.open(encoding="utf-8", newline="") as file:
            yield from (row for row in csv.DictReader(file) if row.keys() >= {"roc_auc_mean", "chosen"})


# Which number of which rule, known by another of its numbers.
_OF_RULES = {
    "p_adjusted": {"new": "candidate", "vs": "baseline", "p": "p_adjusted"},
    "sensitivity_floor": {"se": "sensitivity", "sp": "specificity"},
}


def _judged(gate: dict[str, Any]) -> dict[str, float]:
    rules = [rule["values"] for rule in gate["rules"]]
    found = {
        name: values[of]
        for mark, numbers in _OF_RULES.items()
        for values in rules
        if mark in values
        for name, of in numbers.items()
    }
    # An undefined or infinite number is a word there.
    return {name: value for name, value in found.items() if not isinstance(value, str)} | {"gate": int(gate["passed"])}
