"""What a person sees of a running grid: state, time left, plain lines, a live view."""

from __future__ import annotations

import logging
import os
import pty
import queue
from io import StringIO

import pytest
from rich.console import Console

from bus_mlops.experiments.cell import Cell, CellEvent
from bus_mlops.experiments.progress.apart import apart
from bus_mlops.experiments.progress.display import Progress
from bus_mlops.experiments.progress.grid_state import GridState
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.spec import LedgerKey

XTERM = {"TERM": "xterm"}
RESULTS = {"roc_auc": 0.91, "sensitivity": 0.8, "specificity": 0.9, "seconds_training": 30.0}


@pytest.fixture(autouse=True)
def _messages_are_shown(caplog):
    caplog.set_level(logging.INFO, "bus_mlops")


@pytest.fixture
def cells(demo):
    spec = make_spec(demo, "mobilenet", "all")
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": 10})})
    return [Cell(spec, fold, "f", "parent", "MobileNet CE", "data", "folds") for fold in (1, 2, 3, 4)]


def started(fold, worker=0):
    return CellEvent("started", "f", fold, worker=worker, epochs=10, run_id=f"run {fold}")


def epoch(fold, number, seconds=2.0):
    values = {"loss": 0.5, "seconds": seconds, "images_per_second": 57.0}
    return CellEvent("epoch", "f", fold, epoch=number, epochs=10, values=values)


def finished(fold):
    return CellEvent("finished", "f", fold, values=RESULTS)


def test_the_time_left_follows_from_measured_epochs_and_workers(cells):
    state = GridState(cells, already=2)
    assert state.seconds_left() is None
    for event in (started(1, 0), started(2, 1), epoch(1, 1), epoch(1, 2), epoch(2, 1, seconds=5.0)):
        state.take(event)
    # An epoch takes (2 + 2 + 5) / 3 = 3 s; 8 + 9 + 10 + 10 are to come, on two workers.
    assert state.seconds_left() == pytest.approx(37 * 3 / 2)
    assert state.summary() == "2 of 6 runs done, 2 running, about 56 s left"
    state.take(finished(1))  # a worker is idle for a moment, and no less a worker
    assert state.seconds_left() == pytest.approx(29 * 3 / 2)


def test_what_is_completed_from_trials_takes_no_time_unless_it_is_trained_after_all(cells):
    state = GridState(cells, completed={cell.key for cell in cells[1:]})
    for event in (started(1, 0), started(2, 1), epoch(1, 1)):
        state.take(event)
    assert state.seconds_left() == pytest.approx(9 * 2)
    state.take(epoch(2, 1))
    assert state.seconds_left() == pytest.approx((9 + 9) * 2 / 2)


def test_lost_failed_and_foreign_cells_are_counted_once(cells):
    state = GridState(cells)
    for event in (
        started(1),
        CellEvent("lost", "f", 1),
        started(1),
        finished(1),
        started(2),
        CellEvent("failed", "f", 2, message="no such file"),
        CellEvent("elsewhere", "f", 3, message="process 7 on another machine"),
    ):
        state.take(event)
    assert (state.done, state.failed, len(state.running)) == (1, 1, 0)
    state.record([LedgerKey("f", 3)])
    assert state.summary() == "2 of 4 runs done, 1 failed"


def show(cells, events, terminal):
    text = StringIO()
    console = Console(file=text, force_terminal=terminal, width=110, highlight=False, markup=False, _environ=XTERM)
    published: list[str] = []
    with Progress("losses", cells, publish=published.append, console=console) as progress:
        for event in events:
            progress(event)
        if terminal:
            assert progress._live is not None
            progress._live.refresh()
    return text.getvalue(), published


def test_without_a_terminal_there_are_plain_lines(cells, caplog):
    events = [started(1), epoch(1, 1), epoch(1, 2), finished(1), CellEvent("failed", "f", 2, message="no such file")]
    text, published = show(cells, events, terminal=False)
    assert text == ""
    lines = caplog.messages
    assert len(lines) == 3, "epochs are told once in a while only"
    assert "MobileNet CE, fold 1, epoch 1 of 10, loss 0.500; 0 of 4 runs done, 1 running" in lines[0]
    assert "fold 1: ROC AUC 0.910, sensitivity 80 %, specificity 90 %, 30 s; 1 of 4 runs done" in lines[1]
    assert "fold 2: FAILED: no such file" in lines[2]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert "\x1b" not in caplog.text
    assert published[-1].startswith("1 of 4 runs done, 1 failed")


def test_in_a_terminal_each_worker_has_a_row(cells):
    text, _ = show(cells, [started(1, 0), started(2, 1), epoch(2, 3)], terminal=True)
    assert "0 of 4 runs done, 2 running" in text
    assert "starting" in text
    assert "3 of 10" in text
    assert "57" in text


def test_quiet_there_are_failures_and_no_view(cells, caplog):
    caplog.set_level(logging.WARNING, "bus_mlops")
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=110, _environ=XTERM)
    with Progress("losses", cells, console=console) as progress:
        for event in (started(1), epoch(1, 1), finished(1), CellEvent("failed", "f", 2, message="no such file")):
            progress(event)
    assert text.getvalue() == ""
    assert [message.split(";")[0] for message in caplog.messages] == [
        "[losses] MobileNet CE, fold 2: FAILED: no such file"
    ]


def test_a_dumb_terminal_gets_plain_lines(cells, caplog):
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=110, highlight=False, _environ={"TERM": "dumb"})
    with Progress("losses", cells, console=console) as progress:
        progress(started(1))
        progress(epoch(1, 1))
    assert "fold 1, epoch 1 of 10" in caplog.text


def test_in_a_narrow_terminal_the_numbers_are_not_cut(demo):
    spec = make_spec(demo, "efficientnetb0", "all")
    cell = Cell(spec, 1, "f", "parent", "EfficientNetB0 Focal(gamma=3,alpha=0.5), from scratch", "data", "folds")
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=90, highlight=False, markup=False, _environ=XTERM)
    with Progress("losses", [cell], console=console) as progress:
        progress(started(1))
        progress(epoch(1, 3))
        assert progress._live is not None
        progress._live.refresh()
    row = next(line for line in reversed(text.getvalue().splitlines()) if "EfficientNetB0" in line)
    assert row.split()[-3:] == [str(spec.training.epochs), "0.500", "57"]
    assert "…" in row


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (120, ["worker", "run", "images", "epoch", "loss", "images/s"]),
        (56, ["worker", "run", "images", "epoch", "loss", "images/s"]),
        (30, ["run", "images", "epoch"]),
        (15, ["run"]),
    ],
)
def test_every_line_of_the_view_ends_and_fits(cells, width, shown):
    console = Console(file=StringIO(), width=width, highlight=False, markup=False)
    progress = Progress("losses", cells, console=console)
    for event in (started(1, 0), started(2, 1), epoch(2, 3)):
        progress.state.take(event)
    with console.capture() as captured:
        console.print(progress._view())
    lines = captured.get().splitlines()
    header = lines[-3]  # above the two runs at work
    assert header.split() == shown, "nothing of the bar stands before it"
    assert max(map(len, lines)) <= width


def test_a_finished_run_is_told_once_and_broken_between_words(cells):
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=56, highlight=False, markup=False, _environ=XTERM)
    with Progress("losses", cells, console=console) as progress:
        progress(finished(1))
    told = [line.split("\x1b[2K")[-1] for line in text.getvalue().splitlines()]
    assert "[losses] MobileNet CE, fold 1: ROC AUC 0.910," in told[0]
    assert "  sensitivity 80 %, specificity 90 %, 30 s" in told[1]


def test_what_a_library_writes_to_the_terminal_is_shown_line_by_line():
    ours, theirs = pty.openpty()
    kept, shown = os.dup(2), queue.Queue[str]()
    os.dup2(theirs, 2)
    try:
        with apart(shown.put):
            os.write(2, b"half a ")
            os.write(2, b"line\n\n")
        os.write(2, b"to the terminal")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(theirs)
    assert shown.get(timeout=10) == "half a line"
    assert os.read(ours, 100) == b"to the terminal"
    os.close(ours)


def test_a_store_that_cannot_be_reached_does_not_stop_the_grid(cells):
    def publish(text: str) -> None:
        raise OSError("no route to host")

    with Progress("losses", cells, publish=publish, console=Console(file=StringIO())) as progress:
        progress(finished(1))
    assert progress.state.done == 1
