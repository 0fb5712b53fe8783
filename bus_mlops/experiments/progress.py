"""Progress that a person can leave running: cells done, epochs of each worker, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from bus_mlops.experiments.cell import Cell, CellEvent

# Without a terminal a line about epochs is printed at most this often, in seconds.
INTERVAL = 10.0


class Progress:
    """Prints one line a finished cell and, in between, where each worker is."""

    def __init__(self, name: str, cells: Sequence[Cell], already: int = 0) -> None:
        self._name = name
        self._cells = {cell.key: cell for cell in cells}
        self._already = already
        self._began = time.monotonic()
        self._printed = 0.0
        self._fractions: dict[tuple[str, int], float] = {}
        self._finished = 0
        self._live = sys.stdout.isatty()

    def __call__(self, event: CellEvent) -> None:
        """Take note of an event and print what is new."""
        key = (event.fingerprint, event.fold)
        cell = self._cells[key]
        if event.kind == "epoch":
            self._fractions[key] = event.epoch / event.epochs
            self._epoch(cell, event)
        elif event.kind == "finished":
            self._fractions[key] = 1.0
            self._finished += 1
            self._line(f"{self._count()} {cell.title}, {cell.scope}: {_results(event)}; {self._left()}")
        elif event.kind == "failed":
            self._fractions[key] = 1.0
            self._finished += 1
            self._line(f"{self._count()} {cell.title}, {cell.scope}: FAILED: {event.message}")
        elif event.kind == "lost":
            self._fractions[key] = 0.0
            self._line(f"{cell.title}, {cell.scope}: {event.message}")

    def _epoch(self, cell: Cell, event: CellEvent) -> None:
        now = time.monotonic()
        if not self._live and now - self._printed < INTERVAL:
            return
        text = (
            f"{self._count(1)} {cell.title}, {cell.scope}, epoch {event.epoch}/{event.epochs}, "
            f"loss {event.values.get('loss', float('nan')):.3f}; {self._left()}"
        )
        if self._live:
            print(f"\r\033[K[{self._name}] {text}"[:200], end="", flush=True)
        else:
            self._line(text)
        self._printed = now

    def _count(self, ahead: int = 0) -> str:
        done = min(self._already + self._finished + ahead, self._already + len(self._cells))
        return f"run {done} of {self._already + len(self._cells)}"

    def _left(self) -> str:
        fraction = sum(self._fractions.values()) / max(1, len(self._cells))
        if fraction >= 1:
            return "done"
        elapsed = time.monotonic() - self._began
        return f"about {duration(elapsed * (1 - fraction) / fraction)} left" if fraction > 0 else ""

    def _line(self, text: str) -> None:
        start = "\r\033[K" if self._live else ""
        print(f"{start}[{self._name}] {text}", flush=True)


def _results(event: CellEvent) -> str:
    numbers = event.values
    took = f"{numbers['seconds_training']:.0f} s"
    if "sensitivity" not in numbers:  # a network that only draws masks, or a refit, which nothing is left to test on
        return f"Dice {100 * numbers['dice']:.0f} %, {took}" if "dice" in numbers else took
    return (
        f"ROC AUC {numbers.get('roc_auc', float('nan')):.3f}, sensitivity {100 * numbers['sensitivity']:.0f} %, "
        f"specificity {100 * numbers['specificity']:.0f} %, {took}"
    )


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
