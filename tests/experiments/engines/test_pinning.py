"""Workers get cores of their own, whichever project they belong to; where that cannot be, they stay unpinned."""

from __future__ import annotations

import errno
import os
import secrets
import subprocess
import sys

import psutil
import pytest

from bus_mlops import limits
from bus_mlops.experiments.engines import pinning

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes cannot be pinned here")


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What this process is pinned to, of cores 2, 3, 5 and 7, all idle and held by nobody."""
    calls: list[set[int]] = []
    monkeypatch.setattr(pinning, "ADDRESS", secrets.token_hex(8))
    monkeypatch.setattr(limits, "cores", lambda: [2, 3, 5, 7])
    monkeypatch.setattr(limits, "cpus", lambda: 4.0)
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_args, **_options: [0.0] * 8)
    monkeypatch.setattr("os.sched_setaffinity", lambda _pid, cores: calls.append(set(cores)))
    return calls


def test_each_takes_those_that_the_others_left(pinned):
    first, second = pinning.pin(1), pinning.pin(2)
    assert pinned == [{2}, {3, 5}]
    assert pinning.pin(2) == {}, "one is left, and two threads on it would be slower than anywhere"
    third = pinning.pin(1)
    pinning.release(second)
    fourth = pinning.pin(2)
    assert pinned == [{2}, {3, 5}, {7}, {3, 5}]
    for held in (first, third, fourth):
        pinning.release(held)


def test_a_process_that_is_killed_leaves_its_core_free(pinned):
    code = (
        "import sys, os, signal; from bus_mlops.experiments.engines import pinning; pinning.ADDRESS = sys.argv[1]; "
        "held = pinning._hold(2); os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2:] else None; print(held is None)"
    )
    held = pinning.pin(1)
    command = [sys.executable, "-c", code, pinning.ADDRESS]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "True\n", "held across processes"
    pinning.release(held)
    assert subprocess.run([*command, "kill"]).returncode == -9
    held = pinning.pin(1)
    assert list(held) == [2]
    pinning.release(held)


def test_busy_cores_come_last(pinned, monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_args, **_options: [0, 0, 90, 80, 0, 70, 0, 20])
    held = pinning.pin(2)
    assert pinned == [{7, 2}]
    pinning.release(held)


def test_under_a_quota_nobody_is_pinned(pinned, monkeypatch):
    monkeypatch.setattr(limits, "cpus", lambda: 1.0)
    assert pinning.pin(1) == {}
    assert pinned == []


def test_where_pinning_is_forbidden_the_core_is_left_to_others(pinned, monkeypatch):
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr("os.sched_setaffinity", forbidden)
        assert pinning.pin(1) == {}
    held = pinning.pin(1)
    assert pinned == [{2}]
    pinning.release(held)
