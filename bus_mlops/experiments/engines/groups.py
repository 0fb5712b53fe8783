"""How cells are shared out among workers: together with those of their own program, the longest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bus_mlops.experiments.cell import Cell
from bus_mlops.models import zoo
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.spec import RunSpec

# A worker without cells of its own program joins another program's queue only if what waits there costs more
# than compiling it once more; in the units of `cost`: 15 seconds with a hundred training images.
WORTH_COMPILING = 150.0
# Of each program that a process has compiled TensorFlow keeps 150 to 200 MB for ever, and a search over heads or widths
# compiles one a trial: after so many a fresh process takes the worker's place, which costs as much as half a program.
MOST_PROGRAMS = 8
# Training images of a cell, where an epoch of so many steps has to be weighed against a pass through all of them.
_TYPICAL_IMAGES = 1000


def cost(cells: Iterable[Cell]) -> float:
    """Rough work of some cells: the milliseconds that a core takes for one training image, in all their epochs."""
    return sum(_passes(cell.spec) * _milliseconds(cell.spec) for cell in cells)


def _passes(spec: RunSpec) -> float:
    training = spec.training
    return training.epochs * training.images_per_epoch(_TYPICAL_IMAGES) / _TYPICAL_IMAGES


def _milliseconds(spec: RunSpec) -> float:
    """Of one training step an image, within a factor of three of what was measured for eleven networks.

    Small networks spend their time on the number of layers and pixels, large ones on multiply-accumulates.
    """
    entry = zoo.entry(spec.network)
    size = spec.training.input_size
    gmac = (entry.gmac or 1.0) * (size / entry.input_size * _relative_width(entry, spec)) ** 2
    return 5 * (size / 64) ** 2 + 80 * gmac


def _relative_width(entry: NetworkEntry, spec: RunSpec) -> float:
    """Against that whose multiply-accumulates are known; 1 for networks that have no number for it."""
    name = "width" if "width" in entry.options else entry.width_option
    rule = entry.options.get(name)
    default, value = (rule.default, spec.options.get(name, rule.default)) if rule else (1, 1)
    numbers = isinstance(default, (int, float)) and isinstance(value, (int, float)) and default
    return float(value) / float(default) if numbers else 1.0


def by_program(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """The cells of each program, in their order."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.spec.program_key(), []).append(cell)
    return groups


def choose(queue: Sequence[Cell], key: str, busy: set[str]) -> Cell | None:
    """The next cell for a worker that has compiled `key`: its own program, then one that nobody is at."""
    waiting = by_program(queue)
    if key in waiting:
        return waiting[key][0]
    free = [cells for k, cells in waiting.items() if k not in busy]
    if free:
        return max(free, key=cost)[0]
    longest = max(waiting.values(), key=cost)
    return longest[0] if cost(longest) >= WORTH_COMPILING else None


def split(cells: Sequence[Cell], slots: int) -> list[list[Cell]]:
    """Groups of one program each, longest first, for `slots` that work at once.

    A program with more than a slot's fair share of the work is divided, unless compiling it again costs more.
    """
    fair = max(cost(cells) / slots, WORTH_COMPILING)
    groups: list[list[Cell]] = []
    for same in by_program(cells).values():
        parts = min(len(same), max(1, math.floor(cost(same) / fair + 0.5)))
        groups += [same[start::parts] for start in range(parts)]
    return sorted(groups, key=cost, reverse=True)
