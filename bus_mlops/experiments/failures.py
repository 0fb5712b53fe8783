"""What failed, as a table that says where and why."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO

from bus_mlops.experiments.cell import Cell, CellEvent

WIDTH = 118


def failure_table(cells: Mapping[tuple[str, int], Cell], failed: list[CellEvent]) -> str:
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
