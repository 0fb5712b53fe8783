"""What a driver does with news of its cells: shows them, and puts right in the ledger what a worker could not."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.progress.display import Progress
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import Ledger


class EventHandler:
    """Passes events to the progress, and closes the run of a worker that died.

    A store that is away for a moment does not stop the workers: what it missed is closed later.
    """

    def __init__(self, cells: Iterable[Cell], job: Job, ledger: Ledger, progress: Progress) -> None:
        self._cells = {cell.key: cell for cell in cells}
        self._job = job
        self._ledger = ledger
        self._progress = progress
        self._running: dict[LedgerKey, str] = {}

    def __call__(self, event: CellEvent) -> None:
        """Take note of an event."""
        if event.kind == "started":
            self._running[event.key] = event.run_id
        elif event.kind == "lost" or event.is_last:
            run_id = self._running.pop(event.key, None)
            if event.kind != "finished":
                with suppress(Exception):
                    self._close(event, run_id)
        self._progress(event)

    def _close(self, event: CellEvent, run_id: str | None) -> None:
        status = "FAILED" if event.kind == "failed" else "KILLED"
        if run_id is None and event.kind == "failed":  # a failure without a run would be forgotten
            cell = self._cells[event.key]
            run_id = self._ledger.start(cell.parent_run, cell.run_name, cell.spec, self._job.run_tags(cell))
        if run_id is not None:
            self._ledger.close_if_running(run_id, event.message, status)
