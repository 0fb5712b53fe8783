"""What an engine is: it takes cells, trains each once, and reports events; nothing else knows which one runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from bus_mlops.experiments.cell import Cell, CellEvent
from bus_mlops.spec import LedgerKey

OnEvent = Callable[[CellEvent], None]


class Engine(Protocol):
    """A pool of workers that keeps its compiled programs between calls of `run`."""

    def run(self, cells: Sequence[Cell], on_event: OnEvent) -> dict[LedgerKey, CellEvent]:
        """Train the cells.

        Returns:
            The last event (finished, failed or elsewhere) of each by its key.
        """

    def __enter__(self) -> Engine:
        """Start using the engine."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop all workers."""
