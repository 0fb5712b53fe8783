"""Findings that cannot be tested since rows are left out of the plan: they name these rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bus_mlops.evaluation.paper.findings import Finding
from bus_mlops.paths import LEFT_OUT_FILE


def name_absent_rows(findings: Sequence[Finding], plans_folder: Path) -> list[Finding]:
    """The same findings; one that is not tested says which rows of its strategy are left out, if any are."""
    absent: dict[str, list[str]] = {}
    path = plans_folder / LEFT_OUT_FILE
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                absent.setdefault(row["strategy"], []).append(f"{row['network']} {row['variant']}")
    return [
        replace(each, statement=f"Not tested: rows left out: {', '.join(absent[each.strategy])}.")
        if each.verdict == "not tested" and each.strategy in absent
        else each
        for each in findings
    ]
