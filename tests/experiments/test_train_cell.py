"""How a cell begins and ends in the ledger, whatever comes in between: nothing is trained, and there is no store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import TrainingError
from bus_mlops.experiments import worker
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.programs import Programs
from bus_mlops.experiments.strategies import make_spec

METRICS = {"best_epoch": 2.0}


class Books:
    """In place of a ledger and its writer: writes down what is recorded."""

    def __init__(self) -> None:
        self.written: list[tuple[str, ...]] = []
        self.finished: list[str | None] = [None, None]
        self.writer = self

    def finished_run(self, _key, _tried) -> Any:
        run_id = self.finished.pop(0)
        data, info = SimpleNamespace(metrics={"best_epoch": 9.0}), SimpleNamespace(run_id=run_id)
        return None if run_id is None else SimpleNamespace(info=info, data=data)

    def start(self, *_args) -> str:
        self.written.append(("start",))
        return "ours"

    def alive(self, run_id: str) -> None:
        self.written.append(("alive", run_id))

    def finish(self, run_id: str, metrics, _folder, tags) -> None:
        assert metrics == METRICS
        self.written.append(("finish", run_id, tags["best_epoch"]))

    def discard(self, run_id: str, reason: str) -> None:
        self.written.append(("discard", run_id, reason))

    def discard_artifacts(self, run_id: str) -> None:
        self.written.append(("discard artifacts", run_id))

    def fail(self, run_id: str, status: str, reason: str) -> None:
        self.written.append(("fail", run_id, status, reason))


@pytest.fixture
def job(tmp_path) -> Job:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/m.db", artifacts=str(tmp_path))
    return Job(tmp_path, tmp_path, tracking, tmp_path, None, 3, "driver", tags={"tensorflow": "2"})


@pytest.fixture
def cell(demo) -> Cell:
    return Cell(make_spec(demo, "mobilenet", "all"), 1, "f" * 64, "parent", "title", "data", "folds")


@pytest.fixture
def checkpoint(job, cell) -> Path:
    """What an attempt before this one left."""
    path: Path = job.checkpoints / f"{cell.fingerprint}-{cell.fold}.npz"
    path.touch()
    return path


def train(cell: Cell, job: Job, books: Books, monkeypatch, error: BaseException | None = None) -> list[CellEvent]:
    """The events of a cell whose training ends at once; its last one last."""

    def result(_self, _folder) -> dict[str, float]:
        books.written.append(("train",))
        if error is not None:
            raise error
        return METRICS

    @contextmanager
    def one_beat(beat) -> Iterator[None]:
        beat()
        yield

    monkeypatch.setattr(worker._Attempt, "train", result)
    monkeypatch.setattr(worker, "heartbeat", one_beat)
    events: list[CellEvent] = []
    last = worker.train_cell(cell, job, Programs(), cast("Any", books), events.append)
    return [*events, last]


def test_what_is_finished_is_not_trained_again(cell, job, checkpoint, monkeypatch):
    books = Books()
    books.finished = ["theirs"]
    events = train(cell, job, books, monkeypatch)
    assert [(event.kind, event.run_id) for event in events] == [("finished", "theirs")]
    assert books.written == []


def test_a_cell_is_begun_kept_alive_trained_and_finished(cell, job, checkpoint, monkeypatch):
    books = Books()
    events = train(cell, job, books, monkeypatch)
    assert [(event.kind, event.run_id) for event in events] == [("started", "ours"), ("finished", "ours")]
    assert events[-1].values == METRICS
    assert books.written == [("start",), ("alive", "ours"), ("train",), ("finish", "ours", "2")]
    assert not checkpoint.exists()


def test_who_was_taken_for_dead_and_overtaken_gives_its_run_up(cell, job, checkpoint, monkeypatch):
    books = Books()
    books.finished = [None, "theirs"]
    events = train(cell, job, books, monkeypatch)
    assert (events[-1].kind, events[-1].run_id) == ("finished", "theirs")
    assert books.written[-1] == ("discard", "ours", "run theirs was finished before it")
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("error", "status", "goes_on"),
    [
        (OSError("no room"), "FAILED", True),
        (KeyboardInterrupt(), "KILLED", True),
        (SystemExit(1), "KILLED", True),
        (TrainingError("diverged"), "FAILED", False),
    ],
)
def test_an_error_closes_the_run_and_only_what_would_fail_again_loses_its_checkpoint(
    cell, job, checkpoint, monkeypatch, error, status, goes_on
):
    books = Books()
    with pytest.raises(type(error)):
        train(cell, job, books, monkeypatch, error)
    assert books.written[3:] == [
        ("discard artifacts", "ours"),
        ("fail", "ours", status, f"{type(error).__name__}: {error}"),
    ]
    assert checkpoint.exists() == goes_on


@pytest.mark.parametrize("served", [True, False])
def test_on_a_served_store_a_cell_that_another_driver_holds_is_left_to_it(cell, job, monkeypatch, served):
    if served:
        job = Job(job.benchmark, job.folds, TrackingConfig(uri="http://host:1"), job.checkpoints, None, 1, "driver")
    asked: list[tuple[str, str]] = []

    def rival(_ledger, key, run_id: str, driver: str, tried: bool) -> str:
        assert key == cell.key
        assert not tried
        asked.append((run_id, driver))
        return "process 7"

    monkeypatch.setattr(worker, "rival", rival)
    books = Books()
    last = train(cell, job, books, monkeypatch)[-1]
    assert last.kind == ("elsewhere" if served else "finished")
    assert asked == ([("ours", "driver")] if served else [])
    if served:
        assert last.message == "process 7"
        assert books.written == [("start",), ("discard", "ours", "left to process 7")]


def test_a_checkpoint_is_of_one_fingerprint_fold_number_of_threads_and_tensorflow(cell, job):
    attempt = worker._Attempt(cell, job, Programs(), cast("Any", None), "ours", lambda _: None)
    expected = {"fingerprint": "f" * 64, "fold": "1", "threads": "3", "tensorflow": "2"}
    assert attempt.checkpoint._identity == expected


def test_the_seed_is_that_of_fold_and_spec_seed_whatever_is_trained(cell, demo):
    def seed(network: str, spec_seed: int, fold: int) -> int:
        spec = make_spec(demo, network, "all").model_copy(update={"seed": spec_seed})
        return Cell(spec, fold, "f", "parent", "title", "data", "folds").seed

    own = cell.spec.seed
    assert seed("mobilenet", own, 1) == cell.seed == seed("efficientnetb0", own, 1)
    assert len({seed("mobilenet", spec_seed, fold) for spec_seed in range(3) for fold in range(4)}) == 12
