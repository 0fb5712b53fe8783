"""What a worker process says of itself."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from bus_mlops import environment
from bus_mlops.config import TrackingConfig
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines.work import Workbench
from bus_mlops.experiments.strategies import make_spec

Emit = Callable[[CellEvent], None]


@pytest.fixture
def job(tmp_path) -> Job:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/m.db", artifacts=str(tmp_path))
    return Job(tmp_path, tmp_path, tracking, tmp_path, None, threads=1, driver="me")


@pytest.fixture
def as_python_collects() -> Iterator[None]:
    """Begin as Python does, which looks for garbage after 700 new objects, and go back to what was."""
    before = gc.get_threshold()
    gc.set_threshold(700)
    yield
    gc.set_threshold(*before)


@pytest.fixture
def events(job, demo, monkeypatch) -> Callable[..., list[CellEvent]]:
    """A function that lets a worker train a cell twice and returns what it tells, but nothing is trained."""

    def train_cell(cell: Cell, _job: object, _programs: object, _ledger: object, emit: Emit) -> CellEvent:
        emit(CellEvent("started", *cell.key, run_id="run"))
        return CellEvent("finished", *cell.key)

    monkeypatch.setattr("bus_mlops.training.process.configure_process", lambda _threads: environment.fix_numbers())
    monkeypatch.setattr("bus_mlops.experiments.worker.train_cell", train_cell)
    cell = Cell(make_spec(demo, "mobilenet", "all"), 1, "f", "parent", "title", "data", "folds")

    def train(gpus: float = 0) -> list[CellEvent]:
        found: list[CellEvent] = []
        workbench = Workbench(job, gpus)
        assert {workbench.train(cell, found.append).kind for _ in range(2)} == {"finished"}
        return found

    environment.overridden()
    return train


def test_variables_that_it_does_not_use_are_noted_once_with_its_first_run(events, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--x")
    found = events()
    assert [(event.kind, event.run_id) for event in found] == [("started", "run"), ("note", "run"), ("started", "run")]
    assert "TF_XLA_FLAGS=--x" in found[1].message


@pytest.mark.parametrize(("asked", "there", "notes"), [(0.5, [], 1), (1, ["GPU:0"], 0), (0, [], 0)])
def test_a_gpu_that_it_was_given_and_does_not_use_is_noted(events, monkeypatch, asked, there, notes):
    tf = SimpleNamespace(config=SimpleNamespace(list_physical_devices=lambda _kind: there))
    monkeypatch.setitem(sys.modules, "bus_mlops.models.framework", SimpleNamespace(tf=tf))
    found = [event.message for event in events(asked) if event.kind == "note"]
    assert len(found) == notes
    assert all("engine.num_gpus asks for a GPU" in message for message in found)


@pytest.mark.usefixtures("as_python_collects")
def test_it_seldom_looks_for_garbage(events):
    events()
    assert gc.get_threshold()[0] > 10_000
