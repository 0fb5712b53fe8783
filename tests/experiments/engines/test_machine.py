"""How many workers a machine gets."""

from __future__ import annotations

import os

import psutil
import pytest

from bus_mlops.experiments.engines import machine


def test_a_gpu_is_told_by_its_device_files_unless_it_is_hidden(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not machine.has_gpu(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not machine.has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert machine.has_gpu(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not machine.has_gpu(tmp_path)


def test_the_memory_of_a_container_counts(tmp_path):
    total = psutil.virtual_memory().total / 2**30
    limit = tmp_path / "memory.max"
    assert machine.memory(limit) == total
    limit.write_text("max\n")
    assert machine.memory(limit) == total
    limit.write_text(f"{2**29}\n")
    assert machine.memory(limit) == 0.5


@pytest.mark.parametrize(
    ("gpu", "memory", "threads", "workers"),
    [
        (False, 1000.0, 1, 8),
        (False, 1000.0, 3, 2),
        (False, 1000.0, 16, 1),
        (False, 16.0, 1, 5),
        (False, 2.0, 1, 1),
        (True, 1000.0, 1, 1),
    ],
)
def test_a_worker_for_each_core_as_far_as_memory_goes_and_one_for_a_gpu(monkeypatch, gpu, memory, threads, workers):
    monkeypatch.setattr(machine, "cores", lambda: list(range(8)))
    monkeypatch.setattr(machine, "has_gpu", lambda: gpu)
    monkeypatch.setattr(machine, "memory", lambda: memory)
    assert machine.default_workers(threads) == workers


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes cannot be pinned here")
def test_cores_are_those_of_this_process():
    assert set(machine.cores()) == os.sched_getaffinity(0)


def test_kills_for_memory_are_read_from_the_system(tmp_path):
    counters = tmp_path / "vmstat"
    assert machine.kills_for_memory(counters) == 0
    counters.write_text("pgfault 12\noom_kill 3\nnr_unstable 0\n")
    assert machine.kills_for_memory(counters) == 3
