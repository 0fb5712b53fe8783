"""What a row of a table and one of its trainings are known by in a frame of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bus_mlops.spec import CellKey

if TYPE_CHECKING:
    import pandas as pd

ROW = ["strategy", "model", "variant"]
CELL = list(CellKey._fields)


def by_cell(part: pd.DataFrame) -> Iterator[tuple[CellKey, pd.DataFrame]]:
    """The (fold, seed) of each training of one row, ascending, with its predictions."""
    for key, cell in part.groupby(CELL, sort=True):
        fold, seed = (int(str(value)) for value in key)
        yield CellKey(fold, seed), cell
