"""Figures of probed networks as SVG bytes: metrics against the strength of a corruption, ROC area against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.report.drawing import grid, saved
from bus_mlops.evaluation.report.plots import PALETTE, STYLE

if TYPE_CHECKING:
    import pandas as pd


def robustness_figure(table: pd.DataFrame) -> bytes:
    """One small panel a corruption: ROC area (solid) and sensitivity (dashed) against strength, with intervals."""
    with matplotlib.rc_context(STYLE):
        levels = table[table["what"] == "level"]
        kinds = [kind for kind in levels["corruption"].unique() if kind != "none"]
        figure, axes = grid(len(kinds), 4, (2.5, 2.3))
        for axis, kind in zip(axes, kinds, strict=True):
            for number, (key, own) in enumerate(levels.groupby(list(ROW), sort=False)):
                shown = own[own["corruption"].isin(["none", kind])]
                for metric, line in (("roc_auc", "-"), ("sensitivity", "--")):
                    part = shown[shown["metric"] == metric].sort_values("strength")
                    color = PALETTE[number % len(PALETTE)]
                    label = f"{key[1]} {key[2]}: {'ROC AUC' if metric == 'roc_auc' else 'sensitivity'}"
                    axis.plot(part["strength"], part["estimate"], line, color=color, linewidth=1.6, label=label)
                    axis.fill_between(part["strength"], part["low"], part["high"], color=color, alpha=0.1, linewidth=0)
            last = levels[levels["corruption"] == kind].sort_values("strength")["parameter"].iloc[-1]
            axis.set(title=f"{kind}\n1: {last}", xlim=(0, 1), ylim=(0, 1.02), xlabel="strength")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        return saved(figure, "svg")


def cost_figure(areas: pd.DataFrame) -> bytes:
    """Each row's ROC area against the multiply-accumulates of its network (logarithmic); a colour a network."""
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = grid(1, 1, (6.4, 3.6))
        markers = "osD^vP"
        for number, (network, own) in enumerate(areas.groupby("network", sort=False)):
            color, marker = PALETTE[number % len(PALETTE)], markers[number // len(PALETTE) % len(markers)]
            axis.plot(own["gmac"], own["roc_auc_mean"], marker, color=color, alpha=0.75, label=str(network))
        axis.set(xscale="log", xlabel="GMAC of one image", ylabel="ROC AUC, mean over folds")
        low = float(np.nanmin(areas["roc_auc_mean"]))
        axis.set_ylim(min(0.5, low) - 0.02, 1.01)
        figure.legend(loc="outside right upper")
        return saved(figure, "svg")
