"""What figures of the sections share: small panels side by side, saved as SVG, as addresses for a page."""

from __future__ import annotations

import base64
import io
import textwrap
from typing import TYPE_CHECKING, Any

from bus_mlops.evaluation.report.plots import MOST_VECTOR_PANELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, BAND = "#1B2430", "#8A94A0", "#C9D1D9"
# The strategies whose rows are candidates; where none was trained, all others are shown.
CANDIDATES = ("approaches", "tuned")


def shown_strategies(strategies: list[str]) -> list[str]:
    """Those whose rows are candidates, or all where there is none, each once."""
    every = list(dict.fromkeys(strategies))
    return [each for each in every if each.startswith(CANDIDATES)] or every


def panels(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels in so many columns; size is (width, height) of a panel in inches."""
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes: list[Any] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def address(figure: Figure) -> str:
    """The figure as a `data:` address: SVG, or PNG, a fraction of the bytes, when it has many panels."""
    kind = "svg" if sum(axis.get_visible() for axis in figure.axes) <= MOST_VECTOR_PANELS else "png"
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=110, metadata={"Date" if kind == "svg" else "Software": None})
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def panel_title(strategy: str, model: str, variant: str) -> str:
    """Model and variant in lines short enough for a small panel; of a search, which."""
    search = f"tuned: {strategy.removeprefix('tuned-')}" if strategy.startswith("tuned-") else ""
    return "\n".join(textwrap.fill(part, 36) for part in (model, variant, search) if part)
