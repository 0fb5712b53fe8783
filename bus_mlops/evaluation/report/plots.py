"""Figures of the report as SVG or PNG bytes: ROC curves, confusion matrices, learning curves, sample images.

One palette (Okabe and Ito's, told apart by the colour-blind), one size of letters; the same input gives the
same bytes.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib
import numpy as np

from bus_mlops.evaluation.cells import CELL
from bus_mlops.evaluation.metrics import confusion
from bus_mlops.evaluation.report.drawing import drawn, grid, saved
from bus_mlops.evaluation.roc import evenly, roc_curve
from bus_mlops.evaluation.samples import Samples

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.typing import LineStyleType, RcKeyType

P = ParamSpec("P")

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
LINES: tuple[LineStyleType, ...] = ("-", "--", "-.", ":")
TRUE_MASK = "#00D084"
PREDICTED_MASK = "#FF9500"
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E7EB",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": "#8A94A0",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "bus-mlops",
}
# Under the diagram, where it hides no curve.
BELOW: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.17), "borderaxespad": 0}
# More curves than this in one diagram cannot be told apart: then each model gets its own.
MOST_CURVES = 6


def _styled(draw: Callable[P, bytes]) -> Callable[P, bytes]:
    @functools.wraps(draw)
    def with_style(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return with_style


@_styled
def roc_figure(rows: Mapping[tuple[str, str], pd.DataFrame]) -> bytes:
    """ROC curves (SVG) of the pooled test predictions of each (model, variant); a panel a model when many."""

    def draw(axis: Axes, part: pd.DataFrame, number: int, name: str) -> None:
        x, y, _ = roc_curve(part["label"].to_numpy(), part["probability"].to_numpy())
        area = float(np.trapezoid(y, x))
        kept = evenly(len(x))
        (line,) = axis.plot(x[kept], y[kept], color=PALETTE[number % 8], label=f"{name}: {area:.3f}")
        line.set_linestyle(LINES[number // 8 % 4])

    return _square_panels(rows, draw, "false positive rate", "true positive rate", rim=0.01)


@_styled
def confusion_figure(rows: Mapping[tuple[str, str], pd.DataFrame]) -> bytes:
    """Confusion matrices (SVG) of the pooled test predictions at 0.5: counts and percentages of each true class."""
    figure, axes = grid(len(rows), 5, (2.3, 2.35))
    for axis, (key, part) in zip(axes, rows.items(), strict=True):
        called = part["probability"].to_numpy() >= 0.5
        tn, fp, fn, tp = (int(cell) for cell in confusion(part["label"].to_numpy(), called))
        counts = np.array([[tn, fp], [fn, tp]])
        share = counts / counts.sum(axis=1, keepdims=True)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(counts):
            color = "white" if share[i, j] > 0.55 else "#1B2430"
            axis.text(j, i, f"{count}\n{100 * share[i, j]:.0f} %", ha="center", va="center", color=color)
        axis.set_xticks([0, 1], ["benign", "malignant"])
        axis.set_yticks([0, 1], ["benign", "malignant"], rotation=90, va="center")
        axis.set(title=_wrapped(key), xlabel="predicted", ylabel="true")
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    return drawn(figure)


@_styled
def learning_figure(curves: pd.DataFrame) -> bytes:
    """Learning curves (SVG): loss above, validation ROC AUC below; their mean, each fold thin behind it."""
    groups = list(curves.groupby(["model", "variant"], sort=False))
    columns = min(len(groups), 4)
    bands = -(-len(groups) // columns)
    figure, axes = grid(2 * bands * columns, columns, (2.8, 1.9))
    for position, ((model, variant), group) in enumerate(groups):
        band, column = divmod(position, columns)
        upper, lower = (axes[(2 * band + k) * columns + column] for k in (0, 1))
        _fold_lines(upper, group, "loss", PALETTE[0], "training")
        _fold_lines(upper, group, "validation_loss", PALETTE[1], "validation")
        upper.set(title=_wrapped((model, variant)), ylabel="loss" if column == 0 else "")
        if group["validation_roc_auc"].notna().any():
            _fold_lines(lower, group, "validation_roc_auc", PALETTE[2], "validation")
            lower.set(xlabel="epoch", ylabel="ROC AUC" if column == 0 else "", ylim=(0, 1.02))
        else:  # a network that does not classify
            lower.set_visible(False)
        if position == 0:
            upper.legend(loc="best")
    for position in range(len(groups), bands * columns):
        band, column = divmod(position, columns)
        for k in (0, 1):
            axes[(2 * band + k) * columns + column].set_visible(False)
    return drawn(figure)


@_styled
def samples_figure(samples: Samples, indices: Sequence[int]) -> bytes:
    """Sample images (PNG) with the true lesion outlined in green and the predicted one dashed in orange."""
    figure, axes = grid(len(indices), 4, (2.2, 2.5))
    for axis, i in zip(axes, indices, strict=True):
        axis.imshow(samples.image[i], cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
        outlines = ((samples.mask_true[i], TRUE_MASK, "-"), (samples.mask_predicted[i], PREDICTED_MASK, "--"))
        for mask, color, line in outlines:
            if mask.any():
                # A rim of zeros closes the outline of a lesion that touches the edge.
                side = np.arange(-1, mask.shape[0] + 1)
                axis.contour(side, side, np.pad(mask, 1), levels=[0.5], colors=color, linewidths=1.6, linestyles=line)
        truth = "malignant" if samples.label[i] else "benign"
        p = samples.probability[i]
        wrong = not np.isnan(p) and (p >= 0.5) != bool(samples.label[i])
        title = truth if np.isnan(p) else f"{truth}: p = {p:.2f}"
        axis.set_title(title, color="#B3261E" if wrong else "#1B2430")
        axis.set_xlabel(samples.image_id[i], fontsize=7.5)
        axis.set(xticks=[], yticks=[], xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))
        axis.spines[:].set_visible(False)
    return saved(figure, "png")


@_styled
def calibration_figure(rows: Mapping[tuple[str, str], pd.DataFrame]) -> bytes:
    """Observed share of malignant images against the mean probability (SVG), in eight bins of equal counts."""

    def draw(axis: Axes, part: pd.DataFrame, number: int, name: str) -> None:
        ordered = part.sort_values("probability")
        edges = np.linspace(0, len(ordered), min(8, len(ordered)) + 1).astype(int)
        means = [ordered.iloc[a:b][["probability", "label"]].mean() for a, b in pairwise(edges)]
        x, y = ([m[column] for m in means] for column in ("probability", "label"))
        axis.plot(x, y, marker="o", markersize=3.5, color=PALETTE[number % 8], label=name)

    return _square_panels(rows, draw, "mean predicted probability", "observed share malignant", rim=0.02)


def _square_panels(
    rows: Mapping[tuple[str, str], pd.DataFrame],
    draw: Callable[[Axes, pd.DataFrame, int, str], None],
    xlabel: str,
    ylabel: str,
    rim: float,
) -> bytes:
    """Diagrams of two shares with their diagonal: all rows in one, or a model's in each when there are many."""
    panels = _panels(list(rows))
    columns = min(len(panels), 4)
    figure, axes = grid(len(panels), columns, (4.6, 4.2) if columns == 1 else (3.3, 3.4))
    for axis, keys in zip(axes, panels, strict=True):
        axis.plot([0, 1], [0, 1], color="#8A94A0", linewidth=0.8, linestyle=":")
        for number, key in enumerate(keys):
            draw(axis, rows[key], number, " ".join(key) if len(panels) == 1 else key[1])
        if len(panels) > 1:
            axis.set_title(keys[0][0])
        axis.set(xlim=(-rim, 1 + rim), ylim=(-rim, 1 + rim), aspect="equal", xlabel=xlabel, ylabel=ylabel)
        axis.legend(**BELOW)
    return drawn(figure)


def _wrapped(key: Iterable[object]) -> str:
    """Model and variant, in lines short enough for a small panel."""
    return "\n".join(textwrap.fill(str(part), 26) for part in key)


def _fold_lines(axis: Axes, group: pd.DataFrame, column: str, color: str, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for _, fold in group.groupby(CELL):
        axis.plot(fold["epoch"], fold[column], color=color, linewidth=0.6, alpha=0.35)
    mean = group.groupby("epoch")[column].mean()
    axis.plot(mean.index, mean.to_numpy(), color=color, linewidth=1.8, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _panels(keys: Iterable[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    every = list(keys)
    if len(every) <= MOST_CURVES:
        return [every]
    models = dict.fromkeys(model for model, _ in every)
    return [[key for key in every if key[0] == model] for model in models]
