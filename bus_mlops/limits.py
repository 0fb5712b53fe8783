"""What this process may use of its machine: cores and memory, the limits of containers counted.

Limits stand in the control groups (cgroup) of versions 1 and 2, at any level between the process's own group and the
root, and the smallest of them holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_MEMORY = ("memory.max", "memory.high", "memory.limit_in_bytes")
# Where control groups are mounted; other places are told by the kernel's list of mounts.
_MOUNTED = ("", "unified", "{}", "cpu,cpuacct")


def cores() -> list[int]:
    """The cores that this process may run on, by number; empty where the system does not tell."""
    try:
        return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    except OSError:  # a container may forbid the question
        return []


def cpus(root: Path = _ROOT) -> float:
    """How many cores' time this process may use: its cores, or less by a quota; a part of one is possible.

    Args:
        root: Of the file system.
    """
    quotas = [quota for folder in _groups(root, "cpu") for quota in _quotas(folder)]
    return min([float(len(cores()) or os.cpu_count() or 1), *quotas])


def core_count(root: Path = _ROOT) -> int:
    """How many threads that compute are worth having: the whole cores among `cpus`, at least one."""
    return max(1, int(cpus(root)))


def memory(root: Path = _ROOT) -> float:
    """GiB of the machine, or of the container if it is allowed less.

    Args:
        root: Of the file system.
    """
    import psutil

    limits = [limit for folder in _groups(root, "memory") for limit in _memory_limits(folder)]
    return float(min([int(psutil.virtual_memory().total), *limits])) / 2**30


def _memory_limits(folder: Path) -> Iterator[int]:
    for name in _MEMORY:
        yield from _number(_words(folder / name)[:1])
    # Counts groups above the visible ones too (version 1).
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == "hierarchical_memory_limit":
            yield from _number([value])


def _quotas(folder: Path) -> Iterator[float]:
    together = _words(folder / "cpu.max")
    apart = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    for words in (together, apart):
        numbers = [number for word in words[:2] for number in _number([word])]
        if len(numbers) == 2:  # without a limit, the first word is max or -1
            yield numbers[0] / numbers[1]


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, each with those above it, wherever they may be mounted.

    Inside a container, the path of the group may be that of the host, which is not to be seen there: then what is
    mounted is the group itself.
    """
    own = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup") if line.count(":") >= 2]
    paths = {PurePosixPath(path) for _, names, path in own if not names or controller in names.split(",")}
    folders = dict.fromkeys(
        folder
        for mounted, top in _mounts(root, controller)
        for path in {PurePosixPath("/"), *paths}
        for folder in _upward(mounted, path.relative_to(top) if path.is_relative_to(top) else path)
    )
    return (folder for folder in folders if folder.is_dir())


def _mounts(root: Path, controller: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """Where a controller's groups are mounted, and which group is the uppermost there."""
    for name in _MOUNTED:
        yield root / "sys/fs/cgroup" / name.format(controller), PurePosixPath("/")
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) >= 5 and (
            kind[:1] == ["cgroup2"] or (kind[:1] == ["cgroup"] and controller in kind[-1].split(","))
        ):
            yield root / fields[4].lstrip("/"), PurePosixPath(fields[3])


def _upward(mounted: Path, path: PurePosixPath) -> Iterator[Path]:
    parts = [part for part in path.parts if part not in ("/", "..")]
    return (mounted.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _number(words: list[str]) -> Iterator[int]:
    """The positive number that a word is; nothing for "max", -1 and the like."""
    return (int(word) for word in words if word.isdigit() and int(word) > 0)


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
