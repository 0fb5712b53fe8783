"""What this machine has for workers: how many fit, a GPU that TensorFlow uses; kills for want of memory."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bus_mlops import limits

LOG = logging.getLogger(__name__)

# Of a worker at the paper's 224 px and batches of 32: MobileNet takes 2.6 GiB, DenseNet121 5.8.
GIB_OF_A_WORKER = 3.0
# What drivers of GPUs put into /dev: NVIDIA's, Windows's for its subsystem, AMD's.
_DEVICES = ("nvidia[0-9]*", "dxg", "kfd")
# In a process of its own, since TensorFlow must not be loaded into one that starts workers.
_ASK = (
    "import tensorflow as tf; "
    "print(int(tf.test.is_built_with_gpu_support()), len(tf.config.list_physical_devices('GPU')))"
)
_ASK_SECONDS = 180.0


def default_workers(threads: int) -> int:
    """How many workers of so many threads share a machine by default: one if TensorFlow uses a GPU, else what fits."""
    return 1 if uses_gpu() else fitting_workers(threads)


def fitting_workers(cpus: float) -> int:
    """How many workers of so many cores there are cores and memory for; networks may need more than is assumed."""
    return max(1, int(min(limits.cpus() / cpus, limits.memory() / GIB_OF_A_WORKER)))


@functools.cache
def uses_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether TensorFlow uses a GPU here; says so once if there is one that it does not use.

    Only where there is the device file of one, TensorFlow is asked, which takes some seconds.
    """
    files = sorted(str(file) for pattern in _DEVICES for file in devices.glob(pattern))
    if not files:
        return False
    reason = why_unused()
    if reason:
        LOG.warning("%s: a GPU, but TensorFlow does not use it (%s); it trains on the CPU", ", ".join(files), reason)
    return not reason


def why_unused() -> str:
    """Why TensorFlow uses no GPU of this machine; empty if it uses one, or cannot be asked."""
    command = [sys.executable, "-c", _ASK]
    try:
        with tempfile.TemporaryDirectory() as home:  # not the user's, where Keras would read and write its settings
            own = {**os.environ, "KERAS_HOME": home, "KERAS_BACKEND": "tensorflow"}
            done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, env=own)
        supported, count = map(int, done.stdout.split()[-2:])
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""
    if count:
        return ""
    if not supported:
        return "the TensorFlow that is installed is the one for CPUs"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES is {hidden!r}"
    return "its driver or its libraries cannot be loaded; TensorFlow's list_physical_devices says which"


def kills_for_memory(counters: Path = Path("/proc/vmstat")) -> int:
    """How many processes Linux has killed since it was started, because memory had run out; elsewhere 0."""
    if not counters.exists():
        return 0
    lines = (line.split() for line in counters.read_text(encoding="ascii").splitlines())
    return next((int(value) for name, value in lines if name == "oom_kill"), 0)
