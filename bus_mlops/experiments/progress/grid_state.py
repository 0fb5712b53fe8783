"""How far a grid of cells is: what is done, running and failed, and how long the rest takes at measured rates."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from bus_mlops.experiments.cell import Cell, CellEvent
from bus_mlops.spec import LedgerKey


@dataclass
class Running:
    """A cell at work: its worker, how many epochs are done, the latest loss and images a second."""

    cell: Cell
    worker: int
    epoch: int = 0
    loss: float = math.nan
    images_per_second: float = math.nan


class GridState:
    """Takes events and knows the state; prints nothing. `already` cells were recorded before.

    Those that are `completed` from a trial take no time, unless one turns out to be trained after all.
    One thread may look while another gives it events.
    """

    def __init__(self, cells: Sequence[Cell], already: int = 0, completed: Collection[LedgerKey] = ()) -> None:
        self._waiting = {cell.key: cell for cell in cells}
        self.total = already + len(self._waiting)
        self.done = already
        self.failed = 0
        self.running: dict[LedgerKey, Running] = {}
        self._completed = set(completed)
        self._workers = 1
        # Of each program: epochs measured, the seconds they took, the pixels of an image.
        self._measured: dict[str, tuple[int, float, int]] = {}

    def take(self, event: CellEvent) -> None:
        """Take note of an event."""
        if event.kind == "started":
            self.running[event.key] = Running(self._waiting.pop(event.key), event.worker)
            self._workers = max(self._workers, len(self.running))
        elif event.kind == "epoch":
            self._epoch(self.running[event.key], event)
        elif event.kind == "note":
            self.running[event.key].epoch = event.epoch
        elif event.kind in ("lost", "elsewhere"):
            if event.key in self.running:
                self._waiting[event.key] = self.running.pop(event.key).cell
        else:
            self._waiting.pop(event.key, None)
            self.running.pop(event.key, None)
            self.done += event.kind == "finished"
            self.failed += event.kind == "failed"

    def record(self, keys: Iterable[LedgerKey]) -> None:
        """Take note of waiting cells that another driver has finished."""
        for key in keys:
            del self._waiting[key]
            self.done += 1

    def _epoch(self, running: Running, event: CellEvent) -> None:
        self._completed.discard(event.key)
        running.epoch = event.epoch
        running.loss = event.values["loss"]
        running.images_per_second = event.values["images_per_second"]
        key = running.cell.spec.program_key()
        epochs, seconds, pixels = self._measured.get(key, (0, 0.0, running.cell.spec.training.input_size**2))
        self._measured[key] = epochs + 1, seconds + event.values["seconds"], pixels

    def seconds_left(self) -> float | None:
        """The epochs to come at the measured seconds an epoch, shared by the workers; None before the first epoch.

        A program without a measurement counts as the average of the others, in proportion to its pixels.
        """
        if not self._measured:
            return None
        running, waiting = list(self.running.values()), list(self._waiting.values())
        now = [self._epochs(r.cell, r.epoch) * self._seconds_per_epoch(r.cell) for r in running]
        later = [self._epochs(cell) * self._seconds_per_epoch(cell) for cell in waiting]
        return max([*now, (sum(now) + sum(later)) / self._workers])

    def _epochs(self, cell: Cell, done: int = 0) -> int:
        return 0 if cell.key in self._completed else cell.spec.training.epochs - done

    def _seconds_per_epoch(self, cell: Cell) -> float:
        known = self._measured.get(cell.spec.program_key())
        if known is not None:
            return known[1] / known[0]
        rates = [seconds / epochs / pixels for epochs, seconds, pixels in list(self._measured.values())]
        return cell.spec.training.input_size**2 * sum(rates) / len(rates)

    def summary(self) -> str:
        """The state in a line, e.g. `12 of 60 runs done, 2 running, about 3 min left`."""
        parts = [f"{self.done} of {self.total} runs done"]
        if self.running:
            parts.append(f"{len(self.running)} running")
        if self.failed:
            parts.append(f"{self.failed} failed")
        left = self.seconds_left()
        if left:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(45), duration(200), duration(9000)
    ('45 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
