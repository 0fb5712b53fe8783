"""What tidy tables are computed from; `tidy_tables.py` names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.paths import PREMIUM

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluated:
    """What a tidy table is computed from.

    Attributes:
        plans: The rows of each strategy, marked by what was chosen.
        predictions: Of each strategy, validation and test parts.
        tables: The table of each strategy.
        by_fold: Every metric (fraction) of each row, fold and seed.
        folds: folds.csv.
        benchmark: The folder of the assembled images.
        probes: The folder in which networks were looked at; may be absent.
        premium: The folder of what was trained on image-level folds too; may be absent.
    """

    plans: Mapping[str, list[PlannedRow]]
    predictions: Mapping[str, pd.DataFrame]
    tables: Mapping[str, pd.DataFrame]
    by_fold: pd.DataFrame
    folds: pd.DataFrame
    benchmark: Path
    probes: Path
    premium: Path = PREMIUM
