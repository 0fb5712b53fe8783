"""The section on what of the paper's rows came out again, and what cannot be compared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.reproduced import DECIDING, NOT_COMPARABLE, REPRODUCED_METRICS, RULE
from bus_mlops.evaluation.paper.sentences import points
from bus_mlops.evaluation.report.tabled import Section, render

if TYPE_CHECKING:
    import pandas as pd


def reproduced_section(tables: Path) -> Section | None:
    """The verdicts of `reproduced.csv`; None where the paper prints no number for any row."""
    import pandas as pd

    path = tables / "reproduced.csv"
    table = pd.read_csv(path, keep_default_na=False, na_values=["nan", ""]) if path.is_file() else pd.DataFrame()
    if table.empty:
        return None
    deciding = table[table["metric"] == DECIDING]
    counts = Counter(deciding["verdict"])
    reasons = Counter(deciding.loc[deciding["verdict"] == NOT_COMPARABLE, "reason"])
    rows = [_row(group) for _, group in table.groupby(["strategy", "model", "variant"], sort=False)]
    html = render(
        "reproduced",
        rule=RULE,
        counts=counts.most_common(),
        reasons=reasons.most_common(),
        total=len(deciding),
        headings=[METRICS[name].heading for name in REPRODUCED_METRICS],
        rows=rows,
    )
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return Section("reproduced", "Reproduced or not", html, f"Of {len(deciding)} rows that the paper prints: {said}.")


def _row(group: pd.DataFrame) -> dict[str, Any]:
    lines = {each["metric"]: each for each in group.to_dict("records")}
    first = lines[DECIDING]
    return {
        "name": f"{first['model']} {first['variant']}",
        "table": int(first["table"]),
        "verdict": first["verdict"],
        "reason": first["reason"] if first["verdict"] == NOT_COMPARABLE else "",
        "cells": [_cell(name, lines[name]) for name in REPRODUCED_METRICS],
    }


def _cell(name: str, line: dict[Any, Any]) -> dict[str, str]:
    known = METRICS[name]
    noise = "" if line["noise"] != line["noise"] else f"± {100 * line['noise']:.1f}"
    return {
        "paper": known.format(line["paper"]),
        "ours": known.format(line["ours"]),
        "difference": points(line["difference"]),
        "noise": noise,
    }
