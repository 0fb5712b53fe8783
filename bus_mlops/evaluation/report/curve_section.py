"""The section Curves: net benefit, reliability and scores of the candidates' rows, each in a small panel of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.curves import MODEL, TREAT_ALL
from bus_mlops.evaluation.report.drawing import row_title
from bus_mlops.evaluation.report.svg import BAND, PALETTE, SOFT, Key, Panel, Range, figure
from bus_mlops.evaluation.report.tabled import Section, render

if TYPE_CHECKING:
    import pandas as pd

# At which net benefit is printed: where one would biopsy at the latest, and two less careful.
PRINTED = (0.02, 0.1, 0.3, 0.5)
_DECISION_KEY = (
    Key("the model, with its interval", PALETTE[0]),
    Key("treat all", PALETTE[1], "5 2"),
    Key("treat none", SOFT, "1.5 2"),
)
_RELIABLE_KEY = (
    Key("observed, with its interval", PALETTE[0]),
    Key("where it would be if the probabilities were right", BAND, kind="band"),
)
_SCORE_KEY = (Key("benign", PALETTE[0]), Key("malignant", PALETTE[1], "5 2"))


def curve_section(tables: Path) -> Section | None:
    """The section; None before its tables are computed, and where no row of a candidate classifies."""
    import pandas as pd

    paths = [tables / f"{name}.csv" for name in ("decision_curve", "reliability", "scores")]
    if not all(path.is_file() for path in paths):
        return None
    decisions, reliability, scores = (pd.read_csv(path) for path in paths)
    if decisions.empty:
        return None
    html = render(
        "curves",
        decisions=_figure(
            decisions,
            _decision,
            _benefits(decisions),
            "threshold probability",
            "net benefit",
            _DECISION_KEY,
            "Decision curves: net benefit against threshold probability of each row, with its interval, and of "
            "treating all and none; some numbers stand in the table below",
        ),
        reliability=_figure(
            reliability,
            _reliability,
            (-0.02, 1.02),
            "mean predicted probability",
            "share malignant",
            _RELIABLE_KEY,
            "Reliability diagrams: observed share of malignant images against the mean predicted probability of each "
            "row, with intervals; the errors stand in the table below",
        ),
        scores=_figure(
            scores,
            _scores,
            (0, max(0.1, 1.05 * float(np.nanmax(scores[["estimate", "high"]].to_numpy())))),
            "predicted probability",
            "share of the class",
            _SCORE_KEY,
            "Distribution of predicted probabilities of benign and of malignant images, of each row, with intervals",
        ),
        printed=[f"{100 * threshold:g}\u00a0%" for threshold in PRINTED],
        rows=_lines(decisions, reliability),
    )
    lead = "Net benefit, reliability and scores of the rows that may become candidates, before any calibration."
    return Section("curves", "Curves", html, lead, ("decision_curve", "reliability", "scores"))


def _benefits(decisions: pd.DataFrame) -> Range:
    top = max(float(decisions["estimate"].max()), 0.05)
    return -0.25 * top, 1.15 * top


def _figure(
    frame: pd.DataFrame,
    draw: Callable[[Panel, pd.DataFrame], None],
    y: Range,
    xlabel: str,
    ylabel: str,
    key: Sequence[Key],
    alt: str,
) -> Markup:
    """A panel a row, all with the same axes, and under them what lines and colours mean."""
    panels = []
    for name, own in frame.groupby(ROW, sort=False):
        panels.append(Panel((0, 1), y, row_title(*map(str, name)), xlabel, ylabel))
        draw(panels[-1], own)
    return figure(panels, alt, key)


def _decision(panel: Panel, own: pd.DataFrame) -> None:
    model, everyone = (own[own["what"] == what] for what in (MODEL, TREAT_ALL))
    panel.band(model["threshold"], model["low"], model["high"], PALETTE[0])
    panel.line(model["threshold"], model["estimate"], PALETTE[0])
    # Treating all falls without end; below the axes nothing is drawn.
    shown = everyone[everyone["estimate"] >= panel.y[0]]
    panel.line(shown["threshold"], shown["estimate"], PALETTE[1], 1.1, "5 2")
    panel.line([0, 1], [0, 0], SOFT, 1, "1.5 2")


def _reliability(panel: Panel, own: pd.DataFrame) -> None:
    bins = own[own["metric"] == "observed"]
    panel.line([0, 1], [0, 1], SOFT, 0.8, "1.5 2")
    ends = bins[["mean_probability", "from_consistent", "to_consistent", "low", "high"]]
    for x, least, most, low, high in ends.itertuples(index=False):
        panel.line([x, x], [least, most], BAND, 5)
        panel.line([x, x], [low, high], PALETTE[0], 1.2)
    panel.line(bins["mean_probability"], bins["estimate"], PALETTE[0], 0.8)
    panel.dots(bins["mean_probability"], bins["estimate"], PALETTE[0])
    excess = own.loc[own["metric"] == "excess_calibration_error", "estimate"]
    panel.text(0.03, 0.93, f"excess error {_signed(float(excess.iloc[0]))}")


def _scores(panel: Panel, own: pd.DataFrame) -> None:
    for label, color, dash in (("benign", PALETTE[0], ""), ("malignant", PALETTE[1], "5 2")):
        shares = own[own["label"] == label]
        if shares.empty:
            continue
        edges = np.append(shares["from_probability"], 1.0)
        around = np.repeat(edges, 2)[1:-1]
        panel.band(around, np.repeat(shares["low"], 2), np.repeat(shares["high"], 2), color)
        panel.stairs(list(edges), list(shares["estimate"]), color, dash)


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
