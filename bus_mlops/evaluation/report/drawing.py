"""What the pictures of the report share: the strategies shown, addresses for a page, the style of Optuna's plots."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# The strategies whose rows are candidates; where none was trained, all others are shown.
CANDIDATES = ("approaches", "tuned")
# Okabe and Ito's colours, told apart by the colour-blind.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
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


def shown_strategies(strategies: list[str]) -> list[str]:
    """Those whose rows are candidates, or all where there is none, each once."""
    every = list(dict.fromkeys(strategies))
    return [each for each in every if each.startswith(CANDIDATES)] or every


def row_title(strategy: str, model: str, variant: str) -> str:
    """Model and variant in two lines; of a search, which."""
    search = f"tuned: {strategy.removeprefix('tuned-')}" if strategy.startswith("tuned-") else ""
    return "\n".join(part for part in (model, variant, search) if part)


def data_address(picture: bytes) -> str:
    """A PNG or JPEG as a `data:` address."""
    kind = "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"
