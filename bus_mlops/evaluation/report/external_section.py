"""The section on external cohorts: each row outside, from where to where, and what a few local cases mend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.external import ALONE, AS_IT_IS, FIRST, OUT_OF_FOLD, SHIPPED
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report.tabled import Section, render
from bus_mlops.files import read_json

if TYPE_CHECKING:
    import pandas as pd

FILES = ("metrics", "matrix", "recalibration", "left_out")
KEY = [*ROW, "cohort"]


def external_section(tables: Path) -> Section | None:
    """Drawn from `results/external` beside the tables; None where no external cohort was asked about."""
    import pandas as pd

    folder = tables.parent / "external"
    if not (folder / "external.json").is_file():
        return None
    about = read_json(folder / "external.json")
    if not about["cohorts"]:
        return None
    read = {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=["nan", ""]) for name in FILES}
    metrics = read["metrics"][read["metrics"]["answer"] != ALONE]
    html = render(
        "external",
        cohorts=about["cohorts"],
        unasked=about["left_unasked"],
        headings=[METRICS[name].title for name in FIRST],
        rows=[_row(frame) for _, frame in metrics.groupby(KEY, sort=False, dropna=False)],
        matrix=_matrix(read["matrix"]),
        counts=sorted(set(read["recalibration"]["local_cases"]) - {0}),
        mended=[_mended(frame) for _, frame in read["recalibration"].groupby(KEY, sort=False, dropna=False)],
    )
    names = ", ".join(str(each["name"]) for each in about["cohorts"])
    lead = f"Frozen networks and thresholds on {names}, which no fold touches; and what a few local cases mend there."
    return Section("external", "External cohorts", html, lead, tuple(f"../external/{name}" for name in FILES))


def _row(frame: pd.DataFrame) -> dict[str, Any]:
    first: dict[Any, Any] = frame.iloc[0].to_dict()
    units = []
    for unit, own in frame.groupby("unit", sort=False):
        known = {line["metric"]: line for line in own.to_dict("records")}
        cells = [_cell(known.get(name)) for name in FIRST]
        units.append({"name": str(unit), "images": int(own["images"].iloc[0]), "cells": cells})
    return {
        "name": _name(first),
        "cohort": first["cohort"],
        "shipped": first["answer"] == SHIPPED,
        "networks": int(first["networks"]),
        "threshold": f"{first['threshold']:.3f}",
        "units": units,
    }


def _name(line: dict[Any, Any]) -> str:
    return f"{line['model']} {line['variant']}"


def _cell(line: dict[Any, Any] | None) -> dict[str, str]:
    if line is None or line["estimate"] != line["estimate"]:
        return {"value": "", "interval": "", "why": str(line["method"]) if line else ""}
    metric = METRICS[line["metric"]]
    ends = " to ".join(metric.format(line[end]) for end in ("low", "high")) if line["low"] == line["low"] else ""
    return {"value": metric.format(line["estimate"]), "interval": ends, "why": ""}


def _matrix(table: pd.DataFrame) -> dict[str, Any]:
    """ROC AUC from each train set of a row (lines) to each test set (columns)."""
    own = table[table["metric"] == FIRST[0]]
    tests = list(dict.fromkeys(own.sort_values("how", ascending=False, kind="stable")["test"]))
    lines = []
    for _, frame in own.groupby([*ROW, "train"], sort=False):
        known = {line["test"]: line for line in frame.to_dict("records")}
        cells = [
            {**_cell(known.get(test)), "outside": test in known and known[test]["how"] != OUT_OF_FOLD} for test in tests
        ]
        lines.append({"name": _name(frame.iloc[0].to_dict()), "train": frame["train"].iloc[0], "cells": cells})
    return {"tests": tests, "lines": lines}


def _mended(frame: pd.DataFrame) -> dict[str, Any]:
    """Sensitivity and specificity at fitted thresholds, and the Brier score after Platt's scaling, by local cases."""
    counts = sorted(set(frame["local_cases"]))
    cells = []
    for count in counts:
        own = frame[frame["local_cases"] == count]
        known = {(line["what"], line["metric"]): line for line in own.to_dict("records")}
        fits = ("threshold", "threshold", "platt") if count else (AS_IT_IS,) * 3
        wanted = zip(fits, ("sensitivity", "specificity", "brier"), strict=True)
        cells.append([_band(known.get(each)) for each in wanted])
    first: dict[Any, Any] = frame.iloc[0].to_dict()
    return {"name": _name(first), "cohort": first["cohort"], "cells": cells}


def _band(line: dict[Any, Any] | None) -> dict[str, str]:
    if line is None or line["median"] != line["median"]:
        return {"value": "", "interval": ""}
    metric = METRICS[line["metric"]]
    ends = " to ".join(metric.format(line[end]) for end in ("low", "high")) if line["low"] == line["low"] else ""
    return {"value": metric.format(line["median"]), "interval": ends}
