"""What all figures of the report share: small panels side by side, saved as SVG or PNG, as addresses for a page."""

from __future__ import annotations

import base64
import io
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_VECTOR_PANELS = 20
INK, SOFT, BAND = "#1B2430", "#8A94A0", "#C9D1D9"
# The strategies whose rows are candidates; where none was trained, all others are shown.
CANDIDATES = ("approaches", "tuned")


def shown_strategies(strategies: list[str]) -> list[str]:
    """Those whose rows are candidates, or all where there is none, each once."""
    every = list(dict.fromkeys(strategies))
    return [each for each in every if each.startswith(CANDIDATES)] or every


def grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels in at most so many columns, each of a size in inches, and their axes."""
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes: list[Any] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def drawn(figure: Figure) -> bytes:
    """The figure as SVG; as PNG, a fraction of the bytes, when it has many panels."""
    panels = sum(axis.get_visible() for axis in figure.axes)
    return saved(figure, "svg" if panels <= MOST_VECTOR_PANELS else "png")


def saved(figure: Figure, kind: str) -> bytes:
    """A figure as `svg` or `png`, the same bytes for the same figure."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    return buffer.getvalue()


def address(figure: Figure) -> str:
    """The figure as a `data:` address."""
    return data_address(drawn(figure))


def data_address(picture: bytes) -> str:
    """A PNG, JPEG or SVG as a `data:` address."""
    kinds = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg"}
    kind = next((kind for start, kind in kinds.items() if picture.startswith(start)), "image/svg+xml")
    return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def panel_title(strategy: str, model: str, variant: str) -> str:
    """Model and variant in lines short enough for a small panel; of a search, which."""
    search = f"tuned: {strategy.removeprefix('tuned-')}" if strategy.startswith("tuned-") else ""
    return "\n".join(textwrap.fill(part, 36) for part in (model, variant, search) if part)
