"""Puts the events of tasks that Ray may repeat, or lose, into the order of one life of a cell after the other."""

from __future__ import annotations

from dataclasses import replace

from bus_mlops.experiments.cell import Cell, CellEvent
from bus_mlops.experiments.engines.base import OnEvent
from bus_mlops.spec import LedgerKey


class Collector:
    """Puts the events of repeated and lost tasks in order: one life of a cell at a time, one end."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._run: dict[LedgerKey, str] = {}
        self.done: dict[LedgerKey, CellEvent] = {}

    def take(self, event: CellEvent) -> None:
        """Pass an event on, unless it comes twice or from a life of the cell that is over."""
        key = event.key
        if key in self.done:
            return
        if event.kind == "started":
            if key in self._run:
                self._on_event(replace(event, kind="lost", message="its worker died; Ray starts it again"))
            self._run[key] = event.run_id
        elif event.kind in ("epoch", "note") and self._run.get(key) != event.run_id:
            return
        if event.is_last:
            self.done[key] = event
        self._on_event(event)

    def give_up(self, group: list[Cell], reason: str) -> list[Cell]:
        """Fail the cell that a dead task was at (all of them, if it reached none).

        Returns:
            Those not begun.
        """
        left = [cell for cell in group if cell.key not in self.done]
        begun = [cell for cell in left if cell.key in self._run] or left
        self.fail(begun, reason)
        return [cell for cell in left if cell not in begun]

    def fail(self, cells: list[Cell], reason: str) -> None:
        """Fail cells that did not end yet."""
        for cell in cells:
            self.take(CellEvent("failed", *cell.key, message=reason))
