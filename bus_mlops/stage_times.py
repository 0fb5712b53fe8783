"""What the stages of the last reproduction took: `results/timing.json`, which each stage brings up to date at its end.

Wall time, and seconds of the processor of the stage's process and of all processes that it has started and seen end.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bus_mlops.files import read_json, write_json
from bus_mlops.paths import RESULTS

TIMING = RESULTS / "timing.json"


@contextmanager
def timed(stage: str, path: Path = TIMING) -> Iterator[None]:
    """Note what the process has taken under a stage's name, once the body has come to its end without an error."""
    began = time.time()
    yield
    took = {"wall_seconds": time.time() - began, "cpu_seconds": _processor_seconds()}
    write_json(path, with_stage(_recorded(path), stage, took))


def with_stage(recorded: dict[str, Any], stage: str, took: dict[str, float]) -> dict[str, Any]:
    """What is recorded, with a stage as it ran now, and the sums over the last run of each stage.

    >>> with_stage({}, "plan", {"wall_seconds": 1.26, "cpu_seconds": 2})["cpu_seconds"]
    2
    """
    stages = {**recorded.get("stages", {}), stage: {name: round(value, 1) for name, value in took.items()}}
    sums = {name: round(sum(each[name] for each in stages.values()), 1) for name in took}
    return {**sums, "stages": stages}


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _recorded(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
