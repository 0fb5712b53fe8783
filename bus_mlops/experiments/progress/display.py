"""Progress that a person can leave running: one live view in a terminal, log lines elsewhere, a tag in MLflow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING

from bus_mlops.experiments.cell import VALIDATION_PREFIX, Cell, CellEvent
from bus_mlops.experiments.progress.apart import apart
from bus_mlops.experiments.progress.grid_state import GridState, Running
from bus_mlops.logs import are_shown
from bus_mlops.paragraphs import wrapped
from bus_mlops.spec import LedgerKey

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOG = logging.getLogger(__name__)

# Without a terminal a line about epochs is printed, and with or without one the state is published, at most this
# often, in seconds.
DISPLAY_SECONDS = 10.0

# Characters that the name of a run has at least in the live view, and those between columns and of a bar.
NAME, GAP, BAR = 16, 2, 40
# Columns of the live view that fit beside the name, the most telling ones first.
IMPORTANCE = ("images", "epoch", "loss", "images/s", "worker")


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
        self._apart = ExitStack()
        self._printed = self._published = 0.0

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._apart.enter_context(apart(self._console.print))
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._apart.close()
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
            self.line(f"{where}: {_results(event.values)}{self._so_far()}")
        elif event.kind == "failed":
            self.line(f"{where}: FAILED: {event.message}{self._so_far()}", logging.WARNING)
        elif event.kind in ("lost", "note"):
            self.line(f"{where}: {event.message}", logging.WARNING if event.kind == "lost" else logging.INFO)
        elif event.kind == "elsewhere":
            self.line(f"{where}: left to {event.message}")
        if time.monotonic() - self._published > DISPLAY_SECONDS:
            self._tell_publicly()

    def line(self, text: str, level: int = logging.INFO) -> None:
        """Log a line, or print it above the live view if there is one."""
        if self._live is not None:
            self._console.print(wrapped(f"[{self._name}] {text}", self._console.width), soft_wrap=True)
        else:
            LOG.log(level, "[%s] %s", self._name, text)
        self._printed = time.monotonic()

    def _epoch(self, where: str, event: CellEvent) -> None:
        if self._live is None and time.monotonic() - self._printed >= DISPLAY_SECONDS:
            loss = event.values["loss"]
            self.line(f"{where}, epoch {event.epoch} of {event.epochs}, loss {loss:.3f}{self._so_far()}")

    def _so_far(self) -> str:
        """The end of a line that tells how far the grid is; nothing where the live view says it below."""
        return "" if self._live is not None else f"; {self.state.summary()}"

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

        state, width = self.state, self._console.width
        bar = Table.grid()  # a row ends its line, which a bar alone does not
        bar.add_row(ProgressBar(total=state.total, completed=state.done + state.failed, width=min(BAR, width)))
        columns = _columns(sorted(state.running.values(), key=lambda running: running.worker))
        widths = _widths(columns, width)
        shown = [Column(name, no_wrap=True, overflow="ellipsis", width=widths[name]) for name in widths]
        table = Table(*shown, box=None, padding=(0, GAP, 0, 0), pad_edge=False)
        for row in zip(*(columns[name] for name in widths), strict=True):
            table.add_row(*row)
        return Group(Text(f"[{self._name}] {state.summary()}"), bar, *([table] if state.running else []))


def _columns(running: Sequence[Running]) -> dict[str, list[str]]:
    """The live view from left to right: a text for each cell at work."""
    seen = [not math.isnan(each.loss) for each in running]
    epochs = [(each.epoch, each.cell.spec.training.epochs) for each in running]
    return {
        "worker": [str(each.worker) for each in running],
        "run": [each.cell.title for each in running],
        "images": [each.cell.scope for each in running],
        "epoch": [f"{done} of {total}" if done else "starting" for done, total in epochs],
        "loss": [f"{each.loss:.3f}" if known else "" for each, known in zip(running, seen, strict=True)],
        "images/s": [
            f"{each.images_per_second:.0f}" if known else "" for each, known in zip(running, seen, strict=True)
        ],
    }


def _widths(columns: Mapping[str, Sequence[str]], width: int) -> dict[str, int]:
    """Those of the columns that fit beside each other, in characters; the name of a run takes what is left."""
    needed = {name: max(map(len, (name, *texts))) for name, texts in columns.items()}
    left = width - min(NAME, needed["run"])
    shown = {"run"}
    for name in IMPORTANCE:
        left -= GAP + needed[name]
        if left < 0:
            break
        shown.add(name)
    others = sum(GAP + needed[name] for name in shown - {"run"})
    needed["run"] = max(1, min(needed["run"], width - others))
    return {name: needed[name] for name in columns if name in shown}


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
