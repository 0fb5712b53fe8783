"""The command `bus-mlops plan`: what params.yaml asks for, what of it is done, and how long the rest will take.

It needs neither data nor a store: without them it says that nothing is recorded yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bus_mlops.config import Config
from bus_mlops.experiments.engines.machine import default_workers
from bus_mlops.experiments.progress.forecast import Forecast
from bus_mlops.spec import LedgerKey, RunSpec, network_title

if TYPE_CHECKING:
    from rich.table import Table

    from bus_mlops.experiments.plan import StrategyPlan


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


def describe_plan(config: Config) -> tuple[Table, list[str]]:
    """The plan as a table, and notes on what the table leaves out."""
    from bus_mlops.errors import DatasetError, LedgerError
    from bus_mlops.experiments.plan import make_plans
    from bus_mlops.experiments.search_plan import make_search_plans

    plans = make_plans(config)
    recorded, nothing, notes = None, "0", []
    try:
        recorded = _recorded(config)
        if recorded is None:
            notes.append("no runs recorded yet, so there is no estimate of the time")
    except (LedgerError, DatasetError) as error:
        nothing = "?"
        notes.append(f"what is done, and the time for the rest, cannot be told: {error}")
    table, total = render(config, plans, recorded, nothing)
    if total.unknown:
        notes.append(f"without the time for networks that never ran: {', '.join(sorted(total.unknown))}")
    for search in make_search_plans(config).values():
        uncounted = "which are not counted; those that a table has too cost nothing"
        notes.append(f"{search.explanation}, {uncounted}" if search.networks else search.explanation)
    return table, notes


def render(
    config: Config, plans: dict[str, StrategyPlan], recorded: Recorded | None, nothing: str = "0"
) -> tuple[Table, Work]:
    """The table of all strategies with a last line that counts each spec once.

    Args:
        config: Of the plans.
        plans: By strategy.
        recorded: What has run, if that is known.
        nothing: What the column "done" says otherwise.

    Returns:
        The table, and the work of its last line.
    """
    from rich.table import Table

    from bus_mlops.experiments.plan import unique_specs

    title = f"profile {config.profile}: a cell is one spec on one fold"
    table = Table("strategy", "rows", "specs", "cells", "done", "time left", title=title)

    def add(name: str, rows: str, specs: list[RunSpec]) -> Work:
        work = measure(config, specs, recorded)
        done = str(work.done) if recorded else nothing
        left = _time_left(work, _workers(config)) if recorded else "?"
        table.add_row(name, rows, str(len(specs)), str(work.cells), done, left)
        return work

    for name, each in plans.items():
        if not each.rows:  # `tuned-NAME`, where nothing is searched
            continue
        add(name, str(len(each.rows)), each.unique_specs())
    table.add_section()
    return table, add("all, each spec once", "", unique_specs(plans))


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
