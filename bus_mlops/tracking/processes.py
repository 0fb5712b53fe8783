"""Who is training: enough to tell, from another process, whether a run's process still lives."""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

# A process elsewhere cannot be looked at: its run counts as dead after this many seconds of silence.
SILENCE_SECONDS = 900.0


def identity(of: str = "process") -> dict[str, str]:
    """Tags that identify this process: host, pid, when it was started, and where the pid means what it says."""
    pid = os.getpid()
    return {
        f"{of}.host": socket.gethostname(),
        f"{of}.pid": str(pid),
        f"{of}.started": _started(pid),
        f"{of}.place": _place(),
        **sign_of_life(of),
    }


def sign_of_life(of: str = "process") -> dict[str, str]:
    """The tag that says when the process was last known to live, in seconds since 1970."""
    return {f"{of}.heartbeat": f"{time.time():.0f}"}


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote these tags is gone, or the driver that it worked for.

    What cannot be looked at from here, because it is on another machine, in another container or another user's,
    is dead after `SILENCE_SECONDS`; clocks that differ by less than that do no harm.
    """
    if tags.get("driver.place") == _place() and _gone(tags, "driver"):
        return True
    if tags.get("process.place") == _place():
        return _gone(tags, "process")
    return time.time() - _seconds(tags) > SILENCE_SECONDS


def name(tags: Mapping[str, str]) -> str:
    """The process behind these tags, for people."""
    return f"process {tags.get('process.pid', '?')} on {tags.get('process.host', '?')}"


def _gone(tags: Mapping[str, str], of: str) -> bool:
    try:
        return _started(int(tags[f"{of}.pid"])) != tags[f"{of}.started"]
    except (KeyError, ValueError):  # damaged: then its silence decides
        return time.time() - _seconds(tags) > SILENCE_SECONDS


def _seconds(tags: Mapping[str, str]) -> float:
    """When the process was last known to live; 0 where that was damaged."""
    try:
        return float(tags.get("process.heartbeat", "0"))
    except ValueError:
        return 0.0


@functools.cache
def _place() -> str:
    """The system, container and user to whom a pid means the same process: hosts may share a name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()} {os.getuid()}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {os.getuid()}"


def _started(pid: int) -> str:
    """When a process was started; empty if it is gone, or only waits to be reaped.

    On Linux in clock ticks since the machine was: a clock that is set does not make it another process.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        return f"{process.create_time():.2f}"
    except (psutil.NoSuchProcess, OSError):
        return ""
