"""The command `bus-mlops plan`: what params.yaml asks for, what of it is done, and how long the rest will take.

It needs neither data nor a store: without them it says that nothing is recorded yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bus_mlops.config import Config
from bus_mlops.experiments.engines.machine import default_workers
from bus_mlops.experiments.progress.forecast import Forecast
from bus_mlops.spec import LedgerKey, RunSpec, network_title

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Cohort:
    """What a cohort adds to its cells: the digests of its images and folds, and the training images of each fold."""

    digests: tuple[str, str]
    training_images: dict[int, int]


@dataclass(frozen=True)
class Recorded:
    """What the store and the data tell: finished and only tried (fingerprint, fold), speeds, the cohort of a spec."""

    finished: frozenset[LedgerKey]
    tried: frozenset[LedgerKey]
    forecast: Forecast
    cohort_of: Callable[[RunSpec], Cohort]


@dataclass
class Work:
    """Cells of a plan: how many there are and are done, one worker's seconds for the others, what has no speed.

    Those that a search has `tried` are not done: their test images are still to be predicted, which takes moments.
    """

    cells: int = 0
    done: int = 0
    tried: int = 0
    seconds: float = 0.0
    unknown: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class PlanLine:
    """A strategy's rows, distinct specs and work."""

    name: str
    rows: int
    specs: int
    work: Work


@dataclass(frozen=True)
class PlanStatus:
    """What is planned, by strategy and in all (each spec once), and notes on what that leaves out.

    `nothing` is what is said to be done where it is not `known`.
    """

    profile: str
    lines: tuple[PlanLine, ...]
    total: PlanLine
    notes: tuple[str, ...]
    workers: int
    known: bool
    nothing: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for programs: `bus-mlops plan --json`, whose keys docs/reference/json.md explains."""
        return {
            "profile": self.profile,
            "workers": self.workers,
            "known": self.known,
            "strategies": [self._of(line) for line in self.lines],
            "total": self._of(self.total),
            "notes": list(self.notes),
        }

    def _of(self, line: PlanLine) -> dict[str, Any]:
        work = line.work
        return {
            "name": line.name,
            "rows": line.rows,
            "specs": line.specs,
            "cells": work.cells,
            "done": work.done if self.known else None,
            "tried": work.tried if self.known else None,
            "seconds_left": round(work.seconds / self.workers, 1) if self.known else None,
            "without_speed": sorted(work.unknown),
        }


def describe_plan(config: Config) -> tuple[Table, list[str]]:
    """The plan as a table, and notes on what the table leaves out."""
    status = read_plan_status(config)
    return render(status), list(status.notes)


def read_plan_status(config: Config) -> PlanStatus:
    """What is planned, what of it is done, and how long the rest takes."""
    from bus_mlops.errors import DatasetError, LedgerError
    from bus_mlops.experiments.left_out import planned
    from bus_mlops.experiments.plan import unique_specs

    found = planned(config)
    plans = found.plans
    recorded, nothing, notes = None, "0", [row.sentence for row in found.left_out]
    try:
        recorded = _recorded(config)
        if recorded is None:
            notes.append("no runs recorded yet, so there is no estimate of the time")
    except (LedgerError, DatasetError) as error:
        nothing = "?"
        notes.append(f"what is done, and the time for the rest, cannot be told: {error}")
    lines = [
        _line(config, name, len(each.rows), each.unique_specs(), recorded)
        for name, each in plans.items()
        if each.rows  # `tuned-NAME` has none, where nothing is searched
    ]
    total = _line(config, "all, each spec once", sum(line.rows for line in lines), unique_specs(plans), recorded)
    if total.work.unknown:
        notes.append(f"without the time for networks that never ran: {', '.join(sorted(total.work.unknown))}")
    for search in found.searches.values():
        uncounted = "which are not counted; those that a table has too cost nothing"
        notes.append(f"{search.explanation}, {uncounted}" if search.networks else search.explanation)
    workers, known = _workers(config), recorded is not None
    return PlanStatus(config.profile, tuple(lines), total, tuple(notes), workers, known, nothing)


def _line(config: Config, name: str, rows: int, specs: list[RunSpec], recorded: Recorded | None) -> PlanLine:
    return PlanLine(name, rows, len(specs), measure(config, specs, recorded))


def render(status: PlanStatus) -> Table:
    """The table of all strategies with a last line that counts each spec once."""
    from rich import box
    from rich.table import Table

    title = f"profile {status.profile}: a cell is one spec on one fold"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("strategy", overflow="fold", min_width=12)
    for name in ("rows", "specs", "cells", "done", "time left"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in (*status.lines, status.total):
        rows, work = ("" if line is status.total else str(line.rows)), line.work
        done = str(work.done) if status.known else status.nothing
        left = _time_left(work, status.workers) if status.known else "?"
        table.add_row(line.name, rows, str(line.specs), str(work.cells), done, left)
        if line is status.lines[-1]:
            table.add_section()
    return table


def measure(config: Config, specs: Collection[RunSpec], recorded: Recorded | None) -> Work:
    """Count the cells of some specs and add up the time of those that are not finished."""
    work = Work()
    for spec in specs:
        folds = config.folds_of(spec.cohort)
        work.cells += len(folds)
        if recorded is None:
            continue
        cohort = recorded.cohort_of(spec)
        fingerprint = spec.fingerprint(*cohort.digests)
        for fold in folds:
            if LedgerKey(fingerprint, fold) in recorded.finished:
                work.done += 1
                continue
            if LedgerKey(fingerprint, fold) in recorded.tried:
                work.tried += 1
                continue
            seconds = recorded.forecast.seconds(spec, cohort.training_images[fold])
            if seconds is None:
                work.unknown.add(network_title(spec.network, spec.options))
            else:
                work.seconds += seconds
    return work


def _time_left(work: Work, workers: int) -> str:
    from bus_mlops.experiments.progress.grid_state import duration

    if work.done == work.cells:
        return "none"
    if work.done + work.tried == work.cells:
        return "no training"
    if not work.seconds:
        return "?"
    return f"{'over' if work.unknown else 'about'} {duration(work.seconds / workers)}"


def _workers(config: Config) -> int:
    return config.engine.workers or default_workers(config.engine.threads)


def _recorded(config: Config) -> Recorded | None:
    """What is recorded; None where nothing is. Raises LedgerError (store) or DatasetError (images and folds)."""
    from bus_mlops.tracking.finished import finished_runs

    runs = finished_runs(config.tracking)
    if not runs:
        return None
    finished, tried = (frozenset(run.key for run in runs if run.tried is each) for each in (False, True))
    return Recorded(finished, tried, Forecast(runs), _open_cohorts(config))


def _open_cohorts(config: Config) -> Callable[[RunSpec], Cohort]:
    """A function from a spec to its cohort, each looked up once; raises DatasetError without data or folds."""
    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.dataset.folds.assignment import TRAIN, Folds
    from bus_mlops.dataset.folds.division import parts_of
    from bus_mlops.errors import DatasetError
    from bus_mlops.experiments.digests import digests_of
    from bus_mlops.paths import BENCHMARK, FOLDS

    benchmark, folds = Benchmark.open(BENCHMARK), Folds.open(FOLDS / "folds.csv")
    if folds.count != config.fold_count:
        raise DatasetError(
            f"{FOLDS} has {folds.count} folds, params.yaml asks for {config.fold_count}: `dvc repro folds`"
        )
    known: dict[tuple[tuple[str, ...], float | None], Cohort] = {}

    def cohort_of(spec: RunSpec) -> Cohort:
        key = spec.cohort, spec.training.validation
        if key not in known:
            images = {
                fold: int((parts_of(folds.frame, fold, *key) == TRAIN).sum()) for fold in config.folds_of(spec.cohort)
            }
            known[key] = Cohort(digests_of(benchmark, folds, spec.cohort, spec.network), images)
        return known[key]

    return cohort_of
