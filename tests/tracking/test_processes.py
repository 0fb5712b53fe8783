"""Whether the process behind some tags lives: here, where it can be looked at, and elsewhere."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from bus_mlops.tracking import processes

IDENTIFY = "from bus_mlops.tracking.processes import identity; import json; print(json.dumps(identity()), flush=True)"


@pytest.fixture
def child():
    """A process that has identified itself and waits, and its tags."""
    import json

    code = f"{IDENTIFY}; input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        process.kill()


def test_a_process_lives_until_it_is_killed_even_if_nobody_reaps_it(child):
    process, tags = child
    assert not processes.is_dead(tags)
    process.kill()
    deadline = time.monotonic() + 20
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert processes.is_dead(tags)
    process.wait()
    assert processes.is_dead(tags)


def test_another_process_with_the_same_pid_is_another_process():
    assert not processes.is_dead(processes.identity())
    assert processes.is_dead({**processes.identity(), "process.started": "1"})


def test_a_clock_that_is_set_kills_nobody(monkeypatch):
    tags = processes.identity()
    ahead = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: ahead)
    monkeypatch.setattr(psutil, "boot_time", lambda: ahead)
    assert not processes.is_dead(tags)


@pytest.mark.parametrize("host", ["the same", "another"])
def test_elsewhere_silence_is_death_whatever_the_machine_is_called(host):
    tags = {**processes.identity(), "process.pid": "1", "process.place": "another container"}
    if host == "another":
        tags["process.host"] = "elsewhere"
    assert not processes.is_dead(tags)
    assert processes.is_dead({**tags, "process.heartbeat": f"{time.time() - processes.SILENCE_SECONDS - 60:.0f}"})


def test_a_worker_on_another_machine_does_not_outlive_its_driver_here(child):
    process, tags = child
    driver = {name.replace("process.", "driver."): value for name, value in tags.items()}
    worker = {**processes.identity(), "process.place": "another machine", **driver}
    assert not processes.is_dead(worker)
    process.kill()
    process.wait()
    assert processes.is_dead(worker)
