"""The local engine's processes: how many, on which cores, and what they leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from bus_mlops.config import EngineConfig, TrackingConfig
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines.local import LocalEngine, has_gpu
from bus_mlops.experiments.strategies import make_spec

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores that processes can be pinned to")
def test_each_worker_is_pinned_to_cores_of_its_own_and_a_worker_that_cannot_start_says_why(tmp_path, demo):
    # The store's folder is a file: nothing can be recorded, which each worker says of its cell.
    (tmp_path / "file").write_text("")
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/file/mlflow.db")
    job = Job(tmp_path, tmp_path, tracking, tmp_path, None, threads=1, driver="test")
    networks = ("mobilenet", "efficientnetb0")
    cells = [Cell(make_spec(demo, name, "all"), 1, name, "parent", name, "data", "folds") for name in networks]
    pinned: dict[int, list[int]] = {}

    def on_event(event: CellEvent) -> None:
        for worker in psutil.Process().children():
            if "spawn_main" in " ".join(worker.cmdline()):
                pinned[worker.pid] = worker.cpu_affinity() or []

    with LocalEngine(job, EngineConfig(workers=2)) as engine:
        done = engine.run(cells, on_event)
        scratch = Path(engine._scratch.name)
        assert scratch.is_dir()
    assert sorted(pinned.values()) == [[core] for core in CORES[:2]]
    assert {event.kind for event in done.values()} == {"failed"}
    assert all("file" in event.message for event in done.values())
    assert not scratch.exists()
    assert not psutil.pid_exists(min(pinned)) or not psutil.Process(min(pinned)).is_running()


def test_a_worker_for_each_core_but_one_for_a_gpu(tmp_path, monkeypatch):
    job = Job(tmp_path, tmp_path, TrackingConfig(), tmp_path, None, threads=1, driver="test")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not has_gpu(tmp_path)
    if CORES:
        assert LocalEngine(job, EngineConfig())._limit == len(CORES)
        assert LocalEngine(job, EngineConfig(threads=len(CORES) + 1))._limit == 1
    monkeypatch.setattr("bus_mlops.experiments.engines.local.has_gpu", lambda: True)
    assert LocalEngine(job, EngineConfig())._limit == 1
    assert LocalEngine(job, EngineConfig(workers=3))._limit == 3
