"""The section Subgroups: forest plots and tables per source, case, size of lesion and scanner, from `subgroups.csv`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.lesions import THIRDS
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report.drawing import shown_strategies
from bus_mlops.evaluation.report.svg import INK, PALETTE, SOFT, Key, Panel, figure
from bus_mlops.evaluation.report.tabled import Section, render
from bus_mlops.evaluation.subgroups import ALL, CASE, SIZE, SOURCE

if TYPE_CHECKING:
    import pandas as pd

GROUPINGS = {SOURCE: "Source", "scanner": "Scanner", CASE: "Whole case, by", SIZE: "Lesion size"}
SMALL = ("sensitivity", "dice")


def subgroup_section(tables: Path) -> Section | None:
    """The section; None before the table is computed, and where it has no row."""
    import pandas as pd

    path = tables / "subgroups.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    if table.empty:
        return None
    table = table[table["strategy"].isin(shown_strategies(list(table["strategy"])))]
    rows = [_row(frame) for _, frame in table.groupby(ROW, sort=False)]
    best = max(rows, key=lambda row: row["rank"])
    html = render(
        "subgroups",
        rows=[{**row, "open": row is best} for row in rows],
        sizes=_sizes_figure(table),
        cuts=_cuts(table),
        few=any(cell["few"] for row in rows for line in row["lines"] for cell in line["cells"]),
    )
    lead = "The same predictions by source, case, size of lesion and scanner; small tumours first."
    return Section("subgroups", "Subgroups", html, lead)


def _row(frame: pd.DataFrame) -> dict[str, Any]:
    strategy, model, variant = (str(frame.iloc[0][name]) for name in ROW)
    metrics = [METRICS[name] for name in dict.fromkeys(frame["metric"])]
    lines = list(_lines(frame))
    first = frame.iloc[0]["estimate"]
    return {
        "title": f"{model} {variant}",
        "search": strategy.removeprefix("tuned-") if strategy.startswith("tuned-") else "",
        # ROC AUC of all images; a row that only draws masks stands behind those that classify.
        "rank": (frame.iloc[0]["metric"] == "roc_auc", -1.0 if math.isnan(first) else first),
        "metrics": [metric.title for metric in metrics],
        "lines": lines,
        "figure": _forest(frame, f"{model} {variant}"),
    }


def _subgroups(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(grouping, name, its lines), the groupings in the order of the page; each must be known by name."""
    for grouping in (ALL, *GROUPINGS):
        own = frame[frame["grouping"] == grouping]
        yield from ((grouping, str(name), each) for name, each in own.groupby("subgroup", sort=False))


def _lines(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = list(dict.fromkeys(frame["metric"]))
    before = ""
    for grouping, name, own in _subgroups(frame):
        first: dict[Any, Any] = own.iloc[0].to_dict()
        known = {line["metric"]: line for line in own.to_dict("records")}
        yield {
            "heading": GROUPINGS.get(grouping, "") if grouping != before else "",
            "name": name,
            "range": _range(first) if grouping == SIZE else "",
            "counts": [f"{int(first[what])}" for what in ("images", "cases", "malignant")],
            "cells": [_cell(known.get(metric)) for metric in names],
        }
        before = grouping


def _cell(line: dict[Any, Any] | None) -> dict[str, str]:
    if line is None:
        return {"value": "", "interval": "", "few": ""}
    metric = METRICS[line["metric"]]
    if math.isnan(line["estimate"]):
        return {"value": "", "interval": "", "few": line["method"]}
    ends = " to ".join(metric.format(line[end]) for end in ("low", "high")) if line["low"] == line["low"] else ""
    return {"value": metric.format(line["estimate"]), "interval": ends, "few": ""}


def _range(line: dict[Any, Any]) -> str:
    low, high = (100 * line[name] for name in ("from_share", "to_share"))
    if math.isnan(high):
        return ""
    if line["subgroup"] == THIRDS[0]:
        return f"up to {high:.2g} % of the image"
    return f"above {low:.2g} %" if line["subgroup"] == THIRDS[-1] else f"{low:.2g} to {high:.2g} %"


def _cuts(table: pd.DataFrame) -> list[str]:
    """The cut points of each cohort in words: rows of one cohort share them."""
    ends = table.loc[table["subgroup"] == THIRDS[1], ["from_share", "to_share"]].dropna().drop_duplicates()
    return [f"{100 * low:.2g} % and {100 * high:.2g} %" for low, high in ends.to_numpy().tolist()]


def _forest(frame: pd.DataFrame, title: str) -> Markup:
    """A panel a metric, a line a subgroup; what is too small has no mark."""
    metrics = list(dict.fromkeys(frame["metric"]))
    places: list[tuple[float, str, pd.DataFrame, str]] = []
    names: list[tuple[float, str, bool]] = []
    at, before = 0.0, ALL
    for grouping, name, own in _subgroups(frame):
        if grouping != before:
            names.append((at + 0.1, GROUPINGS[grouping], True))
            at += 1
        names.append((at, name, False))
        places.append((at, grouping, own, name))
        at, before = at + 1, grouping
    panels = []
    for number, metric in enumerate(metrics):
        known = frame[(frame["metric"] == metric) & frame["estimate"].notna()]
        scaled = [_scaled(metric, float(value)) for value in known[["estimate", "low", "high"]].to_numpy().ravel()]
        numbers = [value for value in scaled if not math.isnan(value)] or [0.0, 1.0]
        room = 0.04 * (max(numbers) - min(numbers)) or 0.1
        left = 110 if number == 0 else 14
        panel = Panel(
            (min(numbers) - room, max(numbers) + room), (at - 0.4, -0.6), METRICS[metric].title,
            width=170 + left, height=round(17 * at), names=names if number == 0 else [(0, "", False)], left=left,
        )  # fmt: skip
        overall = known[known["grouping"] == ALL]["estimate"]
        if len(overall):
            panel.line([_scaled(metric, float(overall.iloc[0]))] * 2, panel.y, SOFT, 0.8, "1.5 2")
        for place, grouping, own, _ in places:
            _mark(panel, own[own["metric"] == metric], place, PALETTE[0] if grouping != ALL else INK)
        panels.append(panel)
    spoken = ", ".join(METRICS[metric].heading for metric in metrics)
    return figure(
        panels,
        f"Forest plot of {title}: {spoken} in each subgroup with 95 % intervals, the dotted line at all images; the "
        "numbers stand in the table below",
    )


def _mark(panel: Panel, line: pd.DataFrame, place: float, color: str, *, square: bool = False) -> None:
    if line.empty or math.isnan(line.iloc[0]["estimate"]):
        return
    metric = line.iloc[0]["metric"]
    value, low, high = (_scaled(metric, float(line.iloc[0][name])) for name in ("estimate", "low", "high"))
    panel.line([low, high], [place, place], color)
    panel.dots([value], [place], color, 3, square=square)


def _scaled(metric: str, value: float) -> float:
    return 100 * value if METRICS[metric].unit == "percent" else value


def _sizes_figure(table: pd.DataFrame) -> Markup | str:
    """Sensitivity and Dice of every row in the smallest and in the largest third; empty where neither is known."""
    own = table[(table["grouping"] == SIZE) & table["subgroup"].isin((THIRDS[0], THIRDS[-1]))]
    own = own[own["metric"].isin(SMALL) & own["estimate"].notna()]
    metrics = [metric for metric in SMALL if metric in set(own["metric"])]
    if not metrics:
        return ""
    rows = list(own.groupby(ROW, sort=False))
    names = [(float(place), " ".join(map(str, key[1:])), False) for place, (key, _) in enumerate(rows)]
    left = 14 + round(5.6 * max(len(name) for _, name, _ in names))
    thirds = ((THIRDS[0], PALETTE[1], -0.16, True), (THIRDS[-1], PALETTE[0], 0.16, False))
    panels = []
    for number, metric in enumerate(metrics):
        wide = left if number == 0 else 14
        panel = Panel(
            (-2, 102), (len(rows) - 0.4, -0.6), METRICS[metric].title, width=300 + wide,
            height=26 * len(rows) + 8, names=names if number == 0 else [(0, "", False)], left=wide,
        )  # fmt: skip
        for place, (_, frame) in enumerate(rows):
            for third, color, shift, square in thirds:
                line = frame[(frame["metric"] == metric) & (frame["subgroup"] == third)]
                _mark(panel, line, place + shift, color, square=square)
        panels.append(panel)
    key = [Key(third, color, kind="square" if square else "dot") for third, color, _, square in thirds]
    alt = (
        "Sensitivity and Dice of every row, with intervals, on the smallest and on the largest third of lesions; the "
        "numbers stand in the tables below"
    )
    return figure(panels, alt, key)
