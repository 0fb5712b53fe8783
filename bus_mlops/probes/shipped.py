"""Measures a network as it ships, in a process of its own: `python -m bus_mlops.probes.shipped FOLDER`.

The folder holds `package.json` and the ONNX file that it names. The answer is one line of JSON. Nothing but the
consumer's code is imported, so that the memory is what a consumer needs.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from bus_mlops.consumer.client import BusModel
from bus_mlops.consumer.package_files import OpenedPackage
from bus_mlops.consumer.package_format import PACKAGE_FILE, Package
from bus_mlops.limits import core_count

# A scan as a scanner exports it, height and width in pixels.
SCAN = (500, 600)
WARM, REPEATS = 3, 15


def measure(folder: Path) -> dict[str, float | int]:
    """Median milliseconds from the pixels of one scan to the answer, threads used, and peak memory of this process."""
    package = Package.model_validate_json((folder / PACKAGE_FILE).read_text(encoding="utf-8"))
    networks = {member.onnx: (folder / member.onnx).read_bytes() for member in package.members}
    model = BusModel(folder, package, opened=OpenedPackage(folder, package, "", {}, networks))
    scan = np.random.default_rng(0).integers(0, 256, SCAN).astype(np.uint8)
    seconds = []
    for _ in range(WARM + REPEATS):
        begin = time.perf_counter()
        model.predict([scan], masks=package.has_mask)
        seconds.append(time.perf_counter() - begin)
    return {
        "latency_ms": 1000 * statistics.median(seconds[WARM:]),
        "threads": core_count(),
        "peak_memory_mb": peak_memory() / 2**20,
    }


def peak_memory() -> float:
    """Bytes that this process has held at most; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What `getrusage` tells may be that of the process which started this one.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * float(line.split()[1])
    try:
        import resource
    except ImportError:
        return float("nan")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes where there is no /proc


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
