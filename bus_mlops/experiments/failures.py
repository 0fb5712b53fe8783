"""What failed: the error that ends a call of the runner, and a table that says where and why."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO

from bus_mlops.errors import RunError
from bus_mlops.experiments.cell import Cell, CellEvent
from bus_mlops.spec import LedgerKey

WIDTH = 118


class CellsFailedError(RunError):
    """One or more cells of the grid failed; `failed` says why each did, `finished` holds the run ids of the others."""

    def __init__(self, message: str, failed: Mapping[LedgerKey, CellEvent], finished: Mapping[LedgerKey, str]) -> None:
        super().__init__(message)
        self.failed = failed
        self.finished = finished


def failure_table(cells: Mapping[LedgerKey, Cell], failed: list[CellEvent]) -> str:
    """A row for each failed cell: its title, network, fold and the reason."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "network", "fold", "reason", box=box.SIMPLE_HEAD, width=WIDTH)
    for event in sorted(failed, key=lambda e: (cells[e.key].title, e.fold)):
        cell = cells[event.key]
        table.add_row(cell.title, cell.spec.network, str(event.fold), event.message)
    text = StringIO()
    Console(file=text, width=WIDTH, color_system=None, markup=False, highlight=False).print(table)
    return text.getvalue().rstrip()
