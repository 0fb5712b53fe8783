"""The compiled program that a worker keeps from cell to cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_mlops.experiments.cell import Cell, Job

if TYPE_CHECKING:
    from bus_mlops.training.program import Program


class Programs:
    """The compiled program of the latest key; another key replaces it, so that memory stays bounded."""

    def __init__(self) -> None:
        self.key = ""
        self.program: Program | None = None

    def get(self, cell: Cell, job: Job) -> Program:
        """The program for a cell, compiled anew only when the key differs from the latest one."""
        from bus_mlops.extensions import load_extensions
        from bus_mlops.models.framework import keras
        from bus_mlops.training.linear_probe import program_of

        if self.program is None or self.key != cell.spec.program_key():
            self.program = None
            load_extensions(job.extensions)
            keras.backend.clear_session(free_memory=True)
            self.program = program_of(cell.spec, job.weights_folder)
            self.key = cell.spec.program_key()
        return self.program
