"""Progress that a person can leave running: one live view in a terminal, log lines elsewhere, a tag in MLflow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from bus_mlops.experiments.cell import VALIDATION_PREFIX, Cell, CellEvent
from bus_mlops.experiments.progress.grid_state import GridState
from bus_mlops.logs import are_shown
from bus_mlops.spec import LedgerKey

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOG = logging.getLogger(__name__)

# Without a terminal a line about epochs is printed, and with or without one the state is published, at most this
# often, in seconds.
DISPLAY_SECONDS = 10.0

# Characters that the other columns of the live view take.
OTHERS = 70


class Progress:
    """Shows the state of a grid while it is entered: a line a finished cell, and in between where each worker is.

    `publish` is given the state in a line now and then, and at the end; `completed` are as of `GridState`.
    """

    def __init__(
        self,
        name: str,
        cells: Sequence[Cell],
        already: int = 0,
        publish: Callable[[str], None] = lambda _: None,
        console: Console | None = None,
        completed: Collection[LedgerKey] = (),
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._name = name
        self._cells = {cell.key: cell for cell in cells}
        self._publish = publish
        self.state = GridState(cells, already, completed)
        self._console = console or Console(highlight=False, markup=False)
        self._live: Live | None = None
        if are_shown() and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, get_renderable=self._view, refresh_per_second=2, transient=True)
        self._printed = self._published = 0.0

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if kind is None:
            self._tell_publicly()

    def __call__(self, event: CellEvent) -> None:
        """Take note of an event and print what is new."""
        self.state.take(event)
        cell = self._cells[event.key]
        where = f"{cell.title}, {cell.scope}"
        if event.kind == "epoch":
            self._epoch(where, event)
        elif event.kind == "finished":
            self.line(f"{where}: {_results(event.values)}; {self.state.summary()}")
        elif event.kind == "failed":
            self.line(f"{where}: FAILED: {event.message}; {self.state.summary()}", logging.WARNING)
        elif event.kind in ("lost", "note"):
            self.line(f"{where}: {event.message}", logging.WARNING if event.kind == "lost" else logging.INFO)
        elif event.kind == "elsewhere":
            self.line(f"{where}: left to {event.message}")
        if time.monotonic() - self._published > DISPLAY_SECONDS:
            self._tell_publicly()

    def line(self, text: str, level: int = logging.INFO) -> None:
        """Log a line, or print it above the live view if there is one."""
        if self._live is not None:
            self._console.print(f"[{self._name}] {text}", soft_wrap=True)
        else:
            LOG.log(level, "[%s] %s", self._name, text)
        self._printed = time.monotonic()

    def _epoch(self, where: str, event: CellEvent) -> None:
        if self._live is None and time.monotonic() - self._printed >= DISPLAY_SECONDS:
            loss = event.values["loss"]
            self.line(f"{where}, epoch {event.epoch} of {event.epochs}, loss {loss:.3f}; {self.state.summary()}")

    def _tell_publicly(self) -> None:
        self._published = time.monotonic()
        # A look at the grid in a browser is not worth stopping it for.
        with suppress(Exception):
            self._publish(f"{self.state.summary()} ({time.strftime('%Y-%m-%d %H:%M:%S')})")

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Column, Table
        from rich.text import Text

        state = self.state
        name = Column("run", no_wrap=True, overflow="ellipsis", max_width=max(12, self._console.width - OTHERS))
        table = Table("worker", name, "network", "images", "epoch", "loss", "images/s", box=None, padding=(0, 2, 0, 0))
        for running in sorted(state.running.values(), key=lambda r: r.worker):
            spec = running.cell.spec
            table.add_row(
                str(running.worker),
                running.cell.title,
                spec.network,
                running.cell.scope,
                f"{running.epoch} of {spec.training.epochs}" if running.epoch else "starting",
                "" if math.isnan(running.loss) else f"{running.loss:.3f}",
                "" if math.isnan(running.loss) else f"{running.images_per_second:.0f}",
            )
        bar = ProgressBar(total=state.total, completed=state.done + state.failed, width=40)
        return Group(Text(f"[{self._name}] {state.summary()}"), bar, table)


def _results(numbers: Mapping[str, float]) -> str:
    took = f"{numbers['seconds_training']:.0f} s"
    tested = "sensitivity" in numbers or "dice" in numbers
    validated = {n.removeprefix(VALIDATION_PREFIX): v for n, v in numbers.items() if n.startswith(VALIDATION_PREFIX)}
    if validated and not tested:  # a trial
        return f"on validation {_results({**validated, 'seconds_training': numbers['seconds_training']})}"
    if "sensitivity" not in numbers:  # a network that only draws masks, or a refit, which nothing is left to test on
        return f"Dice {100 * numbers['dice']:.0f} %, {took}" if "dice" in numbers else took
    return (
        f"ROC AUC {numbers.get('roc_auc', float('nan')):.3f}, sensitivity {100 * numbers['sensitivity']:.0f} %, "
        f"specificity {100 * numbers['specificity']:.0f} %, {took}"
    )
