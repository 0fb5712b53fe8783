"""The local engine's processes: on which cores, what becomes of those that die, and what they leave behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest

from bus_mlops import limits
from bus_mlops.config import LocalEngineConfig, TrackingConfig
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines import machine
from bus_mlops.experiments.engines.local import LocalEngine
from bus_mlops.experiments.strategies import make_spec


@pytest.fixture
def job(tmp_path):
    """A job none of whose cells can be recorded, which each worker says of its cell at once."""
    (tmp_path / "file").write_text("")
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/file/mlflow.db")
    return Job(tmp_path, tmp_path, tracking, tmp_path, None, threads=1, driver="test")


@pytest.fixture
def cells(demo):
    """Two cells of different programs."""
    networks = ("mobilenet", "efficientnetb0")
    return [Cell(make_spec(demo, name, "all"), 1, name, "parent", name, "data", "folds") for name in networks]


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.skipif(len(limits.cores()) < 2, reason="needs two cores that processes can be pinned to")
def test_each_worker_is_pinned_to_cores_of_its_own_and_nothing_is_left_behind(job, cells):
    pinned: dict[int, list[int]] = {}

    def on_event(event: CellEvent) -> None:
        pinned.update({worker.pid: worker.cpu_affinity() or [] for worker in workers()})

    with LocalEngine(job, LocalEngineConfig(workers=2)) as engine:
        done = engine.run(cells, on_event)
        scratch = Path(engine._scratch.name)
        assert scratch.is_dir()
    # Others may be at work on this machine: a worker that finds no core free stays where it may run.
    alone = [cores[0] for cores in pinned.values() if len(cores) == 1]
    assert len(pinned) == 2
    assert len(set(alone)) == len(alone)
    assert all(len(cores) == 1 or cores == limits.cores() for cores in pinned.values())
    assert {event.kind for event in done.values()} == {"failed"}
    assert all("file" in event.message for event in done.values())
    assert workers() == []
    assert not scratch.exists()


@pytest.mark.parametrize("memory_ran_out", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_after_a_kill_for_memory_it_goes_on_with_a_worker_fewer(job, cells, monkeypatch, memory_ran_out):
    killed: list[int] = []
    monkeypatch.setattr(machine, "kills_for_memory", lambda: len(killed) if memory_ran_out else 0)

    def kill_one() -> None:
        while not (found := workers()):
            time.sleep(0.02)
        killed.append(found[0].pid)
        found[0].kill()

    events: list[CellEvent] = []
    with LocalEngine(job, LocalEngineConfig(workers=2)) as engine:
        killer = threading.Thread(target=kill_one)
        killer.start()
        done = engine.run(cells, events.append)
        killer.join()
        assert engine._limit == (1 if memory_ran_out else 2)
    lost = [event.message for event in events if event.kind == "lost"]
    assert len(lost) == 1
    assert ("memory ran out; starting it again, with 1 workers" in lost[0]) == memory_ran_out
    assert all("file" in event.message for event in done.values()), "they were begun again and failed for the store"


@pytest.mark.parametrize("most", [1, 8])
def test_a_process_that_has_compiled_many_programs_makes_room_for_a_fresh_one(job, cells, monkeypatch, most):
    monkeypatch.setattr("bus_mlops.experiments.engines.local.MOST_PROGRAMS", most)
    at_work: list[set[int]] = []
    with LocalEngine(job, LocalEngineConfig(workers=1)) as engine:
        done = engine.run(cells, lambda event: at_work.append({worker.pid for worker in workers()}))
    assert all(len(processes) == 1 for processes in at_work), "one after the other"
    assert len(set.union(*at_work)) == (2 if most == 1 else 1)
    assert len(done) == 2
