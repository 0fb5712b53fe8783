"""How many workers a machine gets."""

from __future__ import annotations

import subprocess

import pytest

from bus_mlops import limits
from bus_mlops.experiments.engines import machine


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """A /dev with a GPU of NVIDIA's."""
    (tmp_path / "nvidiactl").touch()
    (tmp_path / "nvidia0").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine.uses_gpu.cache_clear()
    yield tmp_path
    machine.uses_gpu.cache_clear()


def answer(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """What a process that loads TensorFlow says."""
    done = subprocess.CompletedProcess([], 0, f"chatter\n{words}\n", "")
    monkeypatch.setattr("subprocess.run", lambda *_args, **_options: done)


def test_without_its_device_file_nobody_asks_for_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.run", None)
    (tmp_path / "nvidiactl").touch()
    assert not machine.uses_gpu(tmp_path)


@pytest.mark.parametrize(
    ("words", "hidden", "reason"),
    [
        ("1 1", None, ""),
        ("1 2", "0,1", ""),
        ("0 0", None, "is the one for CPUs"),
        ("0 0", "-1", "is the one for CPUs"),
        ("1 0", "", "CUDA_VISIBLE_DEVICES is ''"),
        ("1 0", "-1", "CUDA_VISIBLE_DEVICES is '-1'"),
        ("1 0", None, "libraries cannot be loaded"),
        ("no module named tensorflow", None, ""),
    ],
)
def test_a_gpu_counts_if_tensorflow_uses_it_and_otherwise_a_note_says_why(
    devices, monkeypatch, caplog, words, hidden, reason
):
    answer(monkeypatch, words)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert machine.uses_gpu(devices) == (not reason)
    assert machine.uses_gpu(devices) == (not reason)
    assert len(caplog.messages) == (1 if reason else 0), "once"
    assert reason in caplog.text
    assert ("nvidia0" in caplog.text) == bool(reason)


@pytest.mark.parametrize(
    ("gpu", "memory", "cpus", "threads", "workers"),
    [
        (False, 1000.0, 8, 1, 8),
        (False, 1000.0, 8, 3, 2),
        (False, 1000.0, 8, 16, 1),
        (False, 16.0, 8, 1, 5),
        (False, 2.0, 8, 1, 1),
        (False, 1000.0, 1.5, 1, 1),
        (True, 1000.0, 8, 1, 1),
    ],
)
def test_a_worker_for_each_core_as_far_as_memory_goes_and_one_for_a_gpu(
    monkeypatch, gpu, memory, cpus, threads, workers
):
    monkeypatch.setattr(limits, "cpus", lambda: cpus)
    monkeypatch.setattr(limits, "memory", lambda: memory)
    monkeypatch.setattr(machine, "uses_gpu", lambda: gpu)
    assert machine.default_workers(threads) == workers


def test_kills_for_memory_are_read_from_the_system(tmp_path):
    counters = tmp_path / "vmstat"
    assert machine.kills_for_memory(counters) == 0
    counters.write_text("pgfault 12\noom_kill 3\nnr_unstable 0\n")
    assert machine.kills_for_memory(counters) == 3
