"""Cores and memory are those that a container allows, whatever its control groups look like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bus_mlops import limits

GIB = 2**30
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"
UNLIMITED = "9223372036854771712"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and 16 GiB."""
    monkeypatch.setattr(limits, "cores", lambda: list(range(8)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB))


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


MEMORY = {
    "none": ({}, 16),
    "version 2": ({f"{V2}/memory.max": f"{3 * GIB}"}, 3),
    "version 2, unlimited": ({f"{V2}/memory.max": "max", f"{V2}/memory.high": "max"}, 16),
    "version 2, throttled above": ({f"{V2}/memory.max": f"{4 * GIB}", f"{V2}/memory.high": f"{3 * GIB}"}, 3),
    "more than the machine has": ({f"{V2}/memory.max": f"{64 * GIB}"}, 16),
    "version 2, nested": ({"proc/self/cgroup": "0::/a/b", f"{V2}/a/b/memory.max": f"{3 * GIB}"}, 3),
    "version 2, above": (
        {"proc/self/cgroup": "0::/a/b", f"{V2}/a/b/memory.max": "max", f"{V2}/a/memory.max": f"{2 * GIB}"},
        2,
    ),
    "version 2, of another group": ({"proc/self/cgroup": "0::/a", f"{V2}/b/memory.max": f"{GIB}"}, 16),
    "version 2, outside of the namespace": ({"proc/self/cgroup": "0::/../..", f"{V2}/memory.max": f"{GIB}"}, 1),
    "version 1": ({f"{V1}/memory.limit_in_bytes": f"{3 * GIB}"}, 3),
    "version 1, unlimited": ({f"{V1}/memory.limit_in_bytes": UNLIMITED}, 16),
    "version 1, the path is the host's": (
        {"proc/self/cgroup": "4:memory:/docker/ab\n0::/", f"{V1}/memory.limit_in_bytes": f"{3 * GIB}"},
        3,
    ),
    "version 1, nested": (
        {
            "proc/self/cgroup": "4:memory:/job/step",
            f"{V1}/memory.limit_in_bytes": UNLIMITED,
            f"{V1}/job/memory.limit_in_bytes": f"{5 * GIB}",
            f"{V1}/job/step/memory.limit_in_bytes": f"{6 * GIB}",
        },
        5,
    ),
    "version 1, below what is mounted": (
        {
            "proc/self/cgroup": "4:memory:/docker/ab/inner",
            "proc/self/mountinfo": "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory",
            f"{V1}/inner/memory.limit_in_bytes": f"{2 * GIB}",
        },
        2,
    ),
    "version 1, above what is mounted": (
        {f"{V1}/memory.limit_in_bytes": UNLIMITED, f"{V1}/memory.stat": f"rss 1\nhierarchical_memory_limit {GIB}"},
        1,
    ),
    "mounted elsewhere": (
        {
            "proc/self/cgroup": "0::/a",
            "proc/self/mountinfo": "41 31 0:38 / /cg rw shared:4 - cgroup2 none rw",
            "cg/a/memory.max": f"{GIB}",
        },
        1,
    ),
    "both versions": (
        {"sys/fs/cgroup/unified/memory.max": f"{2 * GIB}", f"{V1}/memory.limit_in_bytes": f"{3 * GIB}"},
        2,
    ),
    "unreadable": ({f"{V2}/memory.max": "", "proc/self/cgroup": "?"}, 16),
}


@pytest.mark.parametrize(("files", "gib"), MEMORY.values(), ids=MEMORY)
def test_memory(tmp_path, files, gib):
    assert limits.memory(tree(tmp_path, files)) == gib


CPU = {
    "none": ({}, 8, 8),
    "version 2": ({f"{V2}/cpu.max": "200000 100000"}, 2, 2),
    "version 2, a part": ({f"{V2}/cpu.max": "150000 100000"}, 1.5, 1),
    "version 2, less than one": ({f"{V2}/cpu.max": "50000 100000"}, 0.5, 1),
    "version 2, unlimited": ({f"{V2}/cpu.max": "max 100000"}, 8, 8),
    "version 2, above": (
        {"proc/self/cgroup": "0::/a/b", f"{V2}/a/b/cpu.max": "max 100000", f"{V2}/a/cpu.max": "300000 100000"},
        3,
        3,
    ),
    "version 1": ({f"{V2}/cpu/cpu.cfs_quota_us": "100000", f"{V2}/cpu/cpu.cfs_period_us": "50000"}, 2, 2),
    "version 1, two controllers": (
        {f"{V2}/cpu,cpuacct/cpu.cfs_quota_us": "100000", f"{V2}/cpu,cpuacct/cpu.cfs_period_us": "100000"},
        1,
        1,
    ),
    "version 1, unlimited": ({f"{V2}/cpu/cpu.cfs_quota_us": "-1", f"{V2}/cpu/cpu.cfs_period_us": "100000"}, 8, 8),
    "version 1, a group of its own": (
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/x\n2:cpuset:/y",
            f"{V2}/cpu/x/cpu.cfs_quota_us": "400000",
            f"{V2}/cpu/x/cpu.cfs_period_us": "100000",
        },
        4,
        4,
    ),
    "more than there are": ({f"{V2}/cpu.max": "6400000 100000"}, 8, 8),
}


@pytest.mark.parametrize(("files", "cpus", "count"), CPU.values(), ids=CPU)
def test_cores(tmp_path, files, cpus, count):
    root = tree(tmp_path, files)
    assert (limits.cpus(root), limits.core_count(root)) == (cpus, count)


def test_where_the_cores_may_not_be_asked_for_those_of_the_machine_count(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "cores", lambda: [])
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert limits.cpus(tmp_path) == 6
