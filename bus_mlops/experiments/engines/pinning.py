"""Cores of a worker's own: no two workers of a machine are pinned to the same one, whoever started them.

A core is held by an address that only one process of a machine can have, and that the kernel frees when the process
ends, however it does: nothing can be left behind.
"""

from __future__ import annotations

import errno
import os
import socket

from bus_mlops import limits

# Of Linux's abstract namespace, which needs no file.
ADDRESS = "bus-mlops/core"
# Per cent of a core's time. Work that holds no core with us, such as that of another container, is seen only so.
BUSY = 50.0
# Seconds for which it is watched.
WATCHED = 0.2

Held = dict[int, socket.socket]


def pin(count: int) -> Held:
    """Pin this process to `count` cores that no other worker has, if there are so many, and hold them.

    Otherwise it stays where it may run: with fewer cores than threads, under a quota (then the cores are other
    containers' too), and where the system does not allow it.

    Returns:
        The cores and what holds them; closing that, or the end of the process, sets them free.
    """
    allowed = limits.cores()
    held: Held = {}
    if limits.cpus() < len(allowed):
        return held
    try:
        for core in _idle_first(allowed):
            holder = _hold(core) if len(held) < count else None
            if holder is not None:
                held[core] = holder
        if len(held) == count:
            os.sched_setaffinity(0, held)
            return held
    except OSError:  # not allowed here
        pass
    release(held)
    return {}


def release(held: Held) -> None:
    """Set cores free for others; the process stays pinned."""
    for holder in held.values():
        holder.close()


def _hold(core: int) -> socket.socket | None:
    """The holder of a core; None if it has one already. Raises OSError where there are no such addresses."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0{ADDRESS}/{core}")
    except OSError as error:
        holder.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return holder


def _idle_first(cores: list[int]) -> list[int]:
    import psutil

    load = psutil.cpu_percent(WATCHED, percpu=True)
    return sorted(cores, key=lambda core: core < len(load) and load[core] > BUSY)
