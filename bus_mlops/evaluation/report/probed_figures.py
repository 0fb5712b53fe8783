"""Figures of probed networks: metrics against the strength of a corruption, ROC area against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.report.svg import PALETTE, Key, Panel, figure

if TYPE_CHECKING:
    import pandas as pd

METRICS_SHOWN = (("roc_auc", "ROC AUC", ""), ("sensitivity", "sensitivity", "5 2"))


def robustness_figure(table: pd.DataFrame) -> Markup:
    """One small panel a corruption: ROC area (solid) and sensitivity (dashed) against strength, with intervals."""
    levels = table[table["what"] == "level"]
    rows = list(levels.groupby(list(ROW), sort=False))
    panels = []
    for kind in (kind for kind in levels["corruption"].unique() if kind != "none"):
        last = levels[levels["corruption"] == kind].sort_values("strength")["parameter"].iloc[-1]
        panel = Panel((0, 1), (0, 1.02), f"{kind}\n1: {last}", "strength", "", 236, 140)
        for number, (_, own) in enumerate(rows):
            shown = own[own["corruption"].isin(["none", kind])]
            for metric, _, dash in METRICS_SHOWN:
                part = shown[shown["metric"] == metric].sort_values("strength")
                color = PALETTE[number % len(PALETTE)]
                panel.band(part["strength"], part["low"], part["high"], color)
                panel.line(part["strength"], part["estimate"], color, dash=dash)
        panels.append(panel)
    key = [
        Key(f"{row[1]} {row[2]}: {name}", PALETTE[number % len(PALETTE)], dash)
        for number, (row, _) in enumerate(rows)
        for _, name, dash in METRICS_SHOWN
    ]
    return figure(panels, "ROC AUC and sensitivity against the strength of each corruption, with intervals", key)


def cost_figure(areas: pd.DataFrame) -> Markup:
    """Each row's ROC area against the multiply-accumulates of its network (logarithmic); a colour a network."""
    x = np.log10(areas["gmac"].to_numpy(dtype=float))
    low = min(0.5, float(np.nanmin(areas["roc_auc_mean"])))
    ends = float(x.min()) - 0.15, float(x.max()) + 0.15
    panel = Panel(ends, (low - 0.02, 1.01), "", "GMAC of one image", "ROC AUC, mean over folds", 620, 250)
    panel.logarithmic = True
    key = []
    for number, (network, own) in enumerate(areas.groupby("network", sort=False)):
        color, square = PALETTE[number % len(PALETTE)], bool(number // len(PALETTE) % 2)
        panel.dots(np.log10(own["gmac"].to_numpy(dtype=float)), own["roc_auc_mean"], color, 4, square=square)
        key.append(Key(str(network), color, kind="square" if square else "dot"))
    return figure([panel], "ROC AUC of each row against the multiply-accumulates of its network", key)
