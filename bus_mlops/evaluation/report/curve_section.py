"""The section Curves: net benefit, reliability and scores of the candidates' rows, each in a small panel of its own."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.curves import MODEL, TREAT_ALL
from bus_mlops.evaluation.report.drawing import BAND, SOFT, address, grid, panel_title
from bus_mlops.evaluation.report.plots import PALETTE, STYLE
from bus_mlops.evaluation.report.tabled import Section, render

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.typing import LineStyleType

# At which net benefit is printed: where one would biopsy at the latest, and two less careful.
PRINTED = (0.02, 0.1, 0.3, 0.5)
COLUMNS = 4
# Colour, kind and width of a line, and what it is.
Key = tuple[str, "LineStyleType", float, str]
_DECISION_KEY: tuple[Key, ...] = (
    (PALETTE[0], "-", 1.6, "the model, with its interval"),
    (PALETTE[1], "--", 1.1, "treat all"),
    (SOFT, ":", 1.0, "treat none"),
)
_RELIABLE_KEY: tuple[Key, ...] = (
    (PALETTE[0], "-", 1.2, "observed, with its interval"),
    (BAND, "-", 5, "where it would be if the probabilities were right"),
)
_SCORE_KEY: tuple[Key, ...] = ((PALETTE[0], "-", 1.5, "benign"), (PALETTE[1], "--", 1.5, "malignant"))


def curve_section(tables: Path) -> Section | None:
    """The section; None before its tables are computed, and where no row of a candidate classifies."""
    paths = [tables / f"{name}.csv" for name in ("decision_curve", "reliability", "scores")]
    known = all(path.is_file() for path in paths)
    return _drawn(*(path.read_text(encoding="utf-8") for path in paths)) if known else None


@lru_cache(maxsize=4)  # drawing takes seconds, and what is drawn follows from the tables alone
def _drawn(decision_text: str, reliability_text: str, score_text: str) -> Section | None:
    import matplotlib
    import pandas as pd

    texts = (decision_text, reliability_text, score_text)
    decisions, reliability, scores = (pd.read_csv(io.StringIO(text)) for text in texts)
    if decisions.empty:
        return None
    with matplotlib.rc_context(STYLE):
        figures = {
            "decisions": _figure(decisions, _decision, "threshold probability", "net benefit", _DECISION_KEY),
            "reliability": _figure(
                reliability, _reliability, "mean predicted probability", "share malignant", _RELIABLE_KEY
            ),
            "scores": _figure(scores, _scores, "predicted probability", "share of the class", _SCORE_KEY),
        }
    html = render(
        "curves",
        **figures,
        printed=[f"{100 * threshold:g} %" for threshold in PRINTED],
        rows=_lines(decisions, reliability),
    )
    return Section("curves", "Curves", html)


def _figure(
    frame: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame], None], xlabel: str, ylabel: str, key: Sequence[Key]
) -> str:
    """A panel a row, all with the same axes, and under them what lines and colours mean."""
    rows = list(frame.groupby(ROW, sort=False))
    figure, axes = grid(len(rows), COLUMNS, (2.65, 2.5))
    for number, (axis, (name, own)) in enumerate(zip(axes, rows, strict=True)):
        draw(axis, own)
        axis.set_title(panel_title(*(str(part) for part in name)), fontsize=8)
        axis.set(xlim=(0, 1), xlabel=xlabel if number + COLUMNS >= len(rows) else "")
        axis.set_ylabel(ylabel if number % COLUMNS == 0 else "")
    shared = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in shared), max(high for _, high in shared))
    handles = [_handle(*each) for each in key]
    # Two panels or fewer have no room for all of it in one line.
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) if len(axes) > 2 else 1)
    return address(figure)


def _decision(axis: Axes, own: pd.DataFrame) -> None:
    model, everyone = (own[own["what"] == what] for what in (MODEL, TREAT_ALL))
    axis.fill_between(model["threshold"], model["low"], model["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
    axis.plot(model["threshold"], model["estimate"], color=PALETTE[0], linewidth=1.6)
    axis.plot(everyone["threshold"], everyone["estimate"], color=PALETTE[1], linewidth=1.1, linestyle="--")
    axis.axhline(0, color=SOFT, linewidth=1.0, linestyle=":")
    top = max(float(everyone["estimate"].max()), float(model["estimate"].max()), 0.05)
    axis.set_ylim(-0.25 * top, 1.15 * top)


def _reliability(axis: Axes, own: pd.DataFrame) -> None:
    bins = own[own["metric"] == "observed"]
    x, y = bins["mean_probability"], bins["estimate"]
    axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
    axis.vlines(x, bins["from_consistent"], bins["to_consistent"], color=BAND, linewidth=5)
    axis.vlines(x, bins["low"], bins["high"], color=PALETTE[0], linewidth=1.2)
    axis.plot(x, y, color=PALETTE[0], marker="o", markersize=3.4, linewidth=0.8)
    excess = own.loc[own["metric"] == "excess_calibration_error", "estimate"]
    axis.text(0.04, 0.96, f"excess error {float(excess.iloc[0]):+.3f}".replace("-", "−"), transform=axis.transAxes,
              va="top", fontsize=8)  # fmt: skip
    axis.set_ylim(-0.02, 1.02)


def _scores(axis: Axes, own: pd.DataFrame) -> None:
    for label, color, line in (("benign", PALETTE[0], "-"), ("malignant", PALETTE[1], "--")):
        shares = own[own["label"] == label]
        if shares.empty:
            continue
        edges = np.append(shares["from_probability"], 1.0)
        low, high = (np.append(shares[end], shares[end].iloc[-1]) for end in ("low", "high"))
        axis.fill_between(edges, low, high, step="post", color=color, alpha=0.18, linewidth=0)
        axis.stairs(shares["estimate"], edges, color=color, linewidth=1.5, linestyle=line)
    axis.set_ylim(0, max(0.1, 1.05 * float(np.nanmax(own[["estimate", "high"]].to_numpy()))))


def _handle(color: str, line: LineStyleType, width: float, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, linestyle=line, linewidth=width, label=label)


def _lines(decisions: pd.DataFrame, reliability: pd.DataFrame) -> list[dict[str, Any]]:
    whole = reliability[reliability["bin"].isna()]
    errors = {key: own.set_index("metric").to_dict("index") for key, own in whole.groupby(ROW)}
    lines = []
    for key, own in decisions.groupby(ROW, sort=False):
        strategy, model, variant = (str(part) for part in key)
        error = errors[key]
        if_right = error["calibration_error_if_right"]
        lines.append(
            {
                "title": f"{model} {variant}",
                "search": strategy.removeprefix("tuned-") if strategy.startswith("tuned-") else "",
                "benefits": [_benefit(own, threshold) for threshold in PRINTED],
                "error": f"{error['calibration_error']['estimate']:.3f}",
                "if_right": f"{if_right['estimate']:.3f}",
                "bounds": f"{if_right['low']:.3f} to {if_right['high']:.3f}",
                "excess": _signed(error["excess_calibration_error"]["estimate"]),
                "beyond": bool(error["calibration_error"]["estimate"] > if_right["high"]),
            }
        )
    return lines


def _benefit(own: pd.DataFrame, threshold: float) -> dict[str, str]:
    at = own[np.isclose(own["threshold"], threshold)].set_index("what").to_dict("index")
    model, everyone = at[MODEL], at[TREAT_ALL]
    known = not math.isnan(model["low"])
    return {
        "value": _signed(model["estimate"]),
        "interval": f"{_signed(model['low'])} to {_signed(model['high'])}" if known else "",
        "all": _signed(everyone["estimate"]),
    }


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
