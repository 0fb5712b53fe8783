"""Who is training: enough to tell, from another process, whether a run's process still lives."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

# A process on another machine cannot be looked at: its run counts as dead after this many seconds of silence.
SILENCE = 900.0


def identity() -> dict[str, str]:
    """Tags that identify this process: host, pid and its start time in seconds."""
    import psutil

    return {
        "process.host": socket.gethostname(),
        "process.pid": str(os.getpid()),
        "process.started": f"{psutil.Process().create_time():.2f}",
        **sign_of_life(),
    }


def sign_of_life() -> dict[str, str]:
    """The tag that says when the process was last known to live, in seconds since 1970."""
    return {"process.heartbeat": f"{time.time():.0f}"}


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote these tags is gone."""
    import psutil

    if tags.get("process.host") != socket.gethostname():
        return time.time() - float(tags.get("process.heartbeat", "0")) > SILENCE
    try:
        started = psutil.Process(int(tags["process.pid"])).create_time()
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True
    return abs(started - float(tags.get("process.started", "0"))) > 1.0


def name(tags: Mapping[str, str]) -> str:
    """The process behind these tags, for people."""
    return f"process {tags.get('process.pid', '?')} on {tags.get('process.host', '?')}"
