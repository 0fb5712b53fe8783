"""The section Leak premium: what image-level folds would have added to the numbers, from `leak_premium.csv`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.leak_premium import in_words
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.sentences import points, probability
from bus_mlops.evaluation.report.drawing import INK, SOFT, address, grid
from bus_mlops.evaluation.report.plots import PALETTE, STYLE
from bus_mlops.evaluation.report.tabled import Section, render

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("roc_auc", "dice")


def leak_premium_section(tables: Path) -> Section | None:
    """A sentence, a dot plot and a table of `leak_premium.csv`; None where no row was trained on leaking folds."""
    import pandas as pd

    path = tables / "leak_premium.csv"
    table = pd.read_csv(path, keep_default_na=False, na_values=["nan", ""]) if path.is_file() else pd.DataFrame()
    if table.empty:
        return None
    rows = [_row(frame) for _, frame in table.groupby(ROW, sort=False)]
    with matplotlib.rc_context(STYLE):
        html = render("leak_premium", rows=rows, figure=_dots(table))
    return Section("leak-premium", "Leak premium", html)


def _name(line: dict[Any, Any]) -> str:
    return f"{line['model']} {line['variant']}"


def _row(frame: pd.DataFrame) -> dict[str, Any]:
    lines = frame.to_dict("records")
    first = next((line for line in lines if line["metric"] in FIRST), lines[0])
    return {
        "name": _name(first),
        "strategy": str(first["strategy"]).replace("_", " "),
        "sentence": in_words(_name(first), METRICS[first["metric"]].heading, first),
        "counts": {name: int(first[name]) for name in ("images", "groups", "torn_groups", "exposed_images")},
        "lines": [_line(line) for line in lines],
    }


def _line(line: dict[Any, Any]) -> dict[str, str]:
    metric = METRICS[line["metric"]]
    known = line["low"] == line["low"]
    return {
        "metric": metric.title,
        **{side: metric.format(line[side]) for side in ("grouped", "image_level")},
        **{
            f"{side}_interval": " to ".join(metric.format(line[f"{side}_{end}"]) for end in ("low", "high"))
            if line[f"{side}_low"] == line[f"{side}_low"]
            else ""
            for side in ("grouped", "image_level")
        },
        "difference": points(line["difference"]),
        "interval": f"{points(line['low'])} to {points(line['high'])}" if known else "",
        "p": probability(line["p"]) if known else "",
        "method": str(line["method"]),
    }


def _dots(table: pd.DataFrame) -> str:
    """A panel a metric: of each row the difference in points with its interval, the line at none."""
    metrics = list(dict.fromkeys(table["metric"]))
    names = list(dict.fromkeys(tuple(key) for key in table[ROW].itertuples(index=False, name=None)))
    figure, axes = grid(len(metrics), 4, (2.6, 0.36 * len(names) + 0.9))
    for number, (axis, metric) in enumerate(zip(axes, metrics, strict=True)):
        own = table[table["metric"] == metric]
        at = [names.index(tuple(key)) for key in own[ROW].itertuples(index=False, name=None)]
        difference, low, high = (100 * own[name].to_numpy(dtype=float) for name in ("difference", "low", "high"))
        axis.axvline(0, color=SOFT, linewidth=0.8, linestyle=":")
        axis.hlines(at, np.nan_to_num(low, nan=0), np.nan_to_num(high, nan=0), color=PALETTE[0], linewidth=1.6)
        axis.plot(difference, at, "o", color=INK, markersize=4.8)
        axis.set(
            title=METRICS[metric].heading, xlabel="points", ylim=(len(names) - 0.4, -0.6), yticks=range(len(names))
        )
        titles = [textwrap.fill(f"{model} {variant}", 30) for _, model, variant in names]
        axis.set_yticklabels(titles if number == 0 else [])
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
    return address(figure)
