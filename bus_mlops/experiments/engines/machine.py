"""What this machine has for workers: cores, memory, a GPU; and whether the system has killed for want of memory."""

from __future__ import annotations

import os
from pathlib import Path

# Of a worker at the paper's 224 px and batches of 32: MobileNet takes 2.6 GiB, DenseNet121 5.8.
GIB_OF_A_WORKER = 3.0


def cores() -> list[int]:
    """The cores that this process may use, by number; empty where processes cannot be pinned to them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def default_workers(threads: int) -> int:
    """How many workers of so many threads share a machine by default: one if it has a GPU, otherwise what fits."""
    return 1 if has_gpu() else fitting_workers(threads)


def fitting_workers(cpus: float) -> int:
    """How many workers of so many cores there are cores and memory for; networks may need more than is assumed."""
    by_cores = (len(cores()) or os.cpu_count() or 1) / cpus
    return max(1, int(min(by_cores, memory() / GIB_OF_A_WORKER)))


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether TensorFlow would find a GPU of NVIDIA's: told by its device files, without loading anything."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(devices.glob("nvidia[0-9]*"))


def memory(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> float:
    """GiB of the machine, or of the container if it has a limit of its own."""
    import psutil

    total = int(psutil.virtual_memory().total)
    if limit.exists() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        total = min(total, int(text))
    return total / 2**30


def kills_for_memory(counters: Path = Path("/proc/vmstat")) -> int:
    """How many processes Linux has killed since it was started, because memory had run out; elsewhere 0."""
    if not counters.exists():
        return 0
    lines = (line.split() for line in counters.read_text(encoding="ascii").splitlines())
    return next((int(value) for name, value in lines if name == "oom_kill"), 0)
