"""What a worker process of any engine does: one cell after another, and a failure is an event, not an end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bus_mlops.environment import collect_rarely, overridden
from bus_mlops.error_messages import explain
from bus_mlops.experiments.cell import Cell, CellEvent, Job

if TYPE_CHECKING:
    from bus_mlops.experiments.programs import Programs
    from bus_mlops.tracking.ledger import Ledger


class Workbench:
    """A process made ready for training at its first cell, with its compiled program and its ledger.

    To be used before anything else touches TensorFlow in the process. Where `gpus` were given to it and TensorFlow
    uses none, it says so.
    """

    def __init__(self, job: Job, gpus: float = 0) -> None:
        self.job = job
        self._gpus = gpus
        self._is_ready = False
        self._notes = ""
        self._programs: Programs | None = None
        self._ledger: Ledger | None = None

    def train(self, cell: Cell, emit: Callable[[CellEvent], None]) -> CellEvent:
        """Train a cell. What goes wrong is told by a `failed` event, never raised.

        Returns:
            Its last event.
        """
        try:
            if not self._is_ready:
                collect_rarely()
                from bus_mlops.training.process import configure_process

                configure_process(self.job.threads)
                self._notes = "; ".join(filter(None, (overridden(), self._missing_gpu())))
                self._is_ready = True
            from bus_mlops.experiments.programs import Programs
            from bus_mlops.experiments.worker import train_cell
            from bus_mlops.tracking.ledger import Ledger

            self._programs = self._programs or Programs()
            self._ledger = self._ledger or Ledger(self.job.tracking)
            return train_cell(cell, self.job, self._programs, self._ledger, partial(self._tell, emit))
        except Exception as error:
            self._programs = None  # whatever state it is in, the next cell starts clean
            return CellEvent("failed", *cell.key, message=_describe(error))

    def _missing_gpu(self) -> str:
        """What there is to say of a GPU that was asked for and is not used; empty if there is nothing."""
        if not self._gpus:
            return ""
        from bus_mlops.models.framework import tf

        if tf.config.list_physical_devices("GPU"):
            return ""
        return "engine.num_gpus asks for a GPU, but TensorFlow uses none here: it trains on the CPU"

    def _tell(self, emit: Callable[[CellEvent], None], event: CellEvent) -> None:
        """Pass an event on; after the first start, also what there is to say of this process."""
        emit(event)
        if event.kind == "started" and self._notes:
            emit(replace(event, kind="note", message=self._notes))
            self._notes = ""


def _describe(error: Exception) -> str:
    message = explain(error)
    if message is not None:
        return message
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
