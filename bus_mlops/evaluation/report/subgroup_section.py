"""The section Subgroups: forest plots and tables per source, case, size of lesion and scanner, from `subgroups.csv`."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.lesions import THIRDS
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report.drawing import INK, SOFT, address, grid, shown_strategies
from bus_mlops.evaluation.report.plots import PALETTE, STYLE
from bus_mlops.evaluation.report.tabled import Section, render
from bus_mlops.evaluation.subgroups import ALL, CASE, SIZE, SOURCE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

GROUPINGS = {SOURCE: "Source", "scanner": "Scanner", CASE: "Whole case, by", SIZE: "Lesion size"}
SMALL = ("sensitivity", "dice")


def subgroup_section(tables: Path) -> Section | None:
    """The section; None before the table is computed, and where it has no row."""
    path = tables / "subgroups.csv"
    return _drawn(path.read_text(encoding="utf-8")) if path.is_file() else None


@lru_cache(maxsize=4)  # drawing takes seconds, and what is drawn follows from the table alone
def _drawn(text: str) -> Section | None:
    import matplotlib
    import pandas as pd

    table = pd.read_csv(io.StringIO(text))
    if table.empty:
        return None
    table = table[table["strategy"].isin(shown_strategies(list(table["strategy"])))]
    with matplotlib.rc_context(STYLE):
        rows = [_row(frame) for _, frame in table.groupby(ROW, sort=False)]
        sizes = _sizes_figure(table)
    best = max(rows, key=lambda row: row["rank"])
    html = render(
        "subgroups",
        rows=[{**row, "open": row is best} for row in rows],
        sizes=sizes,
        cuts=_cuts(table),
        few=any(cell["few"] for row in rows for line in row["lines"] for cell in line["cells"]),
    )
    return Section("subgroups", "Subgroups", html)


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
        "spoken": ", ".join(metric.heading for metric in metrics),
        "lines": lines,
        "figure": _forest(frame),
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


def _forest(frame: pd.DataFrame) -> str:
    """A panel a metric, a line a subgroup; what is too small has no mark."""
    metrics = list(dict.fromkeys(frame["metric"]))
    every = list(_subgroups(frame))
    places, labels, headings, at, before = [], [], [], 0.0, ALL
    for grouping, name, _ in every:
        if grouping != before:
            headings.append((at + 0.25, GROUPINGS[grouping]))
            at += 1.25
        places.append(at)
        labels.append(name)
        at, before = at + 1, grouping
    figure, axes = grid(len(metrics), 4, (2.45 if len(metrics) > 1 else 4.5, 0.24 * at + 0.75))
    for number, (axis, metric) in enumerate(zip(axes, metrics, strict=True)):
        for place, (grouping, _, own) in zip(places, every, strict=True):
            _mark(axis, own[own["metric"] == metric], place, PALETTE[0] if grouping != ALL else INK)
        overall = frame[(frame["grouping"] == ALL) & (frame["metric"] == metric)]["estimate"]
        if overall.notna().any():
            axis.axvline(_scaled(metric, float(overall.iloc[0])), color=SOFT, linewidth=0.8, linestyle=":")
        axis.set(title=METRICS[metric].title, ylim=(at - 0.4, -0.6), yticks=places)
        axis.set_yticklabels(labels if number == 0 else [])
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
        if number == 0:
            for place, heading in headings:
                axis.text(-0.02, place, heading, transform=axis.get_yaxis_transform(), ha="right", va="center",
                          fontweight="bold", fontsize=8.5)  # fmt: skip
    return address(figure)


def _mark(
    axis: Axes, line: pd.DataFrame, place: float, color: str, label: str | None = None, marker: str = "o"
) -> None:
    if line.empty or math.isnan(line.iloc[0]["estimate"]):
        return
    metric = line.iloc[0]["metric"]
    value, low, high = (_scaled(metric, float(line.iloc[0][name])) for name in ("estimate", "low", "high"))
    axis.plot([low, high], [place, place], color=color, linewidth=1.6, solid_capstyle="butt")
    axis.plot([value], [place], marker=marker, markersize=4.8, color=color, linestyle="none", label=label)


def _scaled(metric: str, value: float) -> float:
    return 100 * value if METRICS[metric].unit == "percent" else value


def _sizes_figure(table: pd.DataFrame) -> str:
    """Sensitivity and Dice of every row in the smallest and in the largest third; empty where neither is known."""
    own = table[(table["grouping"] == SIZE) & table["subgroup"].isin((THIRDS[0], THIRDS[-1]))]
    own = own[own["metric"].isin(SMALL) & own["estimate"].notna()]
    metrics = [metric for metric in SMALL if metric in set(own["metric"])]
    if not metrics:
        return ""
    rows = list(own.groupby(ROW, sort=False))
    figure, axes = grid(len(metrics), 2, (5.2 if len(metrics) > 1 else 6.5, 0.36 * len(rows) + 1.0))
    thirds = ((THIRDS[0], PALETTE[1], -0.16, "s"), (THIRDS[-1], PALETTE[0], 0.16, "o"))
    for number, (axis, metric) in enumerate(zip(axes, metrics, strict=True)):
        for place, (_, frame) in enumerate(rows):
            for third, color, shift, marker in thirds:
                line = frame[(frame["metric"] == metric) & (frame["subgroup"] == third)]
                _mark(axis, line, place + shift, color, marker=marker)
        axis.set(title=METRICS[metric].title, ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), xlim=(-2, 102))
        titles = [_short(*(str(part) for part in key)) for key, _ in rows]
        axis.set_yticklabels(titles if number == 0 else [])
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, marker=marker, markersize=4.8, linewidth=1.6, label=third)
        for third, color, _, marker in thirds
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return address(figure)


def _short(strategy: str, model: str, variant: str) -> str:
    search = f" (search {strategy.removeprefix('tuned-')})" if strategy.startswith("tuned-") else ""
    return textwrap.fill(f"{model} {variant}{search}", 38)
