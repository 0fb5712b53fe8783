"""The section Leak premium: what image-level folds would have added to the numbers, from `leak_premium.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.leak_premium import in_words
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.sentences import points, probability
from bus_mlops.evaluation.report.svg import INK, PALETTE, SOFT, Panel, figure
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
    html = render("leak_premium", rows=rows, figure=_dots(table))
    lead = f"What folds that leak would have added: {rows[0]['sentence']}."
    return Section("leak-premium", "Leak premium", html, lead, ("leak_premium",))


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


def _dots(table: pd.DataFrame) -> Markup:
    """A panel a metric: of each row the difference in points with its interval, the line at none."""
    rows = list(dict.fromkeys(tuple(key) for key in table[ROW].itertuples(index=False, name=None)))
    names = [(place, f"{model} {variant}", False) for place, (_, model, variant) in enumerate(rows)]
    left = 14 + round(5.6 * max(len(name) for _, name, _ in names))
    ends = 100 * table[["difference", "low", "high"]].to_numpy(dtype=float)
    reach = float(np.nanmax(np.abs(ends))) * 1.05 or 1.0
    panels = []
    for number, metric in enumerate(dict.fromkeys(table["metric"])):
        wide = left if number == 0 else 14
        panel = Panel(
            (-reach, reach), (len(rows) - 0.4, -0.6), METRICS[metric].heading, "points", width=180 + wide,
            height=26 * len(rows) + 14, names=names if number == 0 else [(0, "", False)], left=wide,
        )  # fmt: skip
        panel.line([0, 0], panel.y, SOFT, 0.8, "1.5 2")
        for line in table[table["metric"] == metric].to_dict("records"):
            at = rows.index(tuple(line[name] for name in ROW))
            panel.line([100 * line["low"], 100 * line["high"]], [at, at], PALETTE[0])
            panel.dots([100 * line["difference"]], [at], INK)
        panels.append(panel)
    alt = (
        "Image-level minus grouped folds in points, with 95 % intervals, for each row and metric; the numbers stand in "
        "the table below"
    )
    return figure(panels, alt)
