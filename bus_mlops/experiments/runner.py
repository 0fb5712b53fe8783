"""Running what a plan asks for and the ledger does not have: the missing cells, and nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bus_mlops.config import Config
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.leakage import leak_tags
from bus_mlops.experiments.cell import REFIT, Cell, CellEvent, Job
from bus_mlops.experiments.digests import digests_of
from bus_mlops.experiments.engines.base import Engine
from bus_mlops.experiments.event_handler import EventHandler
from bus_mlops.experiments.failures import CellsFailedError, failure_table
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.progress.display import Progress
from bus_mlops.paths import BENCHMARK
from bus_mlops.spec import LedgerKey, RunSpec
from bus_mlops.tracking.kinds import TRIED, serving
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.row_page import FOLDS_PLANNED, PAPER, STRATEGY

LOG = logging.getLogger(__name__)

# Seconds between two looks whether another driver has finished the cells that are left.
WAIT_SECONDS = 15.0


class Runner:
    """Holds the data, the ledger and an engine whose workers stay alive between calls."""

    def __init__(self, config: Config, ledger: Ledger, engine: Engine, job: Job) -> None:
        self.config = config
        self.ledger = ledger
        self.at_work_on = ""
        self.benchmark = Benchmark.open(BENCHMARK)
        self.folds = Folds.open(job.folds)
        self._engine = engine
        self._job = job
        self._of_cohort: dict[tuple[tuple[str, ...], bool], tuple[str, str, dict[str, str]]] = {}

    def cells(
        self, spec: RunSpec, folds: Sequence[int], title: str, tags: Mapping[str, str], tried: bool = False
    ) -> list[Cell]:
        """The cells of a spec, whose parent run is found or created; the one fold of a refit is REFIT.

        Those that are `tried` are trained like the others and predict no test image.

        Raises:
            RunError: An inner fold is to be tested.
        """
        data, split, leaks = self._describe(spec)
        is_refit = tuple(folds) == (REFIT,)
        fingerprint = spec.fingerprint(data, split, is_refit)
        # Before anything is written: some cannot be.
        cells = [Cell(spec, fold, fingerprint, "", title, data, split, leaks, tried) for fold in folds]
        planned = ", ".join(map(str, self.config.folds_of(spec.cohort)))
        tags = {**self._job.tags, **tags, "data_digest": data, "folds_digest": split, **leaks, FOLDS_PLANNED: planned}
        parent = self.ledger.parents.find_or_create(
            spec, fingerprint, title, tags, kind="refit" if is_refit else "spec"
        )
        return [replace(cell, parent_run=parent) for cell in cells]

    def digests(self, spec: RunSpec) -> tuple[str, str]:
        """Digests of the images and of the fold assignment that a spec uses."""
        return self._describe(spec)[:2]

    def _describe(self, spec: RunSpec) -> tuple[str, str, dict[str, str]]:
        """Digest of the images, digest of the folds, and what leaks: the same for every spec of a cohort.

        What leaks differs where a spec divides anew what it trains and validates on.
        """
        cohort = tuple(sorted(spec.cohort))
        anew = spec.training.validation is not None or spec.inner is not None
        if (cohort, anew) not in self._of_cohort:
            digests = digests_of(self.benchmark, self.folds, spec.cohort, spec.network)
            self._of_cohort[cohort, anew] = *digests, leak_tags(self.folds.frame, cohort, anew)
        return self._of_cohort[cohort, anew]

    def run(self, cells: Sequence[Cell], name: str) -> dict[LedgerKey, str]:
        """Train what the ledger does not have.

        A tried cell is served by a tested one of the same key too. A tested one of which there is only a trial is
        completed: its test images are predicted, and nothing is trained.

        Returns:
            The run id of every cell.

        Raises:
            CellsFailedError: Names the cells that failed; the others are recorded.
        """
        # Of two with one key the tested one serves both.
        unique = {cell.key: cell for cell in sorted(cells, key=lambda cell: not cell.tried)}
        finished, completed = self._found(unique.values())
        missing = [cell for key, cell in unique.items() if key not in finished]
        have, train = len(unique) - len(missing), len(missing) - len(completed)
        more = f", {len(completed)} to complete from trials, without training" if completed else ""
        LOG.info("[%s] %d runs, %d of them recorded already, %d to train%s", name, len(unique), have, train, more)
        failed: dict[LedgerKey, CellEvent] = {}
        if missing:
            self.at_work_on = name
            publish = partial(self.ledger.show_progress, name)
            with Progress(name, missing, have, publish, completed=completed) as progress:
                failed = self._train(missing, finished, progress)
            self.at_work_on = ""
        self._summarise(unique.values())
        if failed:
            raise CellsFailedError(self._failure(name, unique, failed), failed, finished)
        return {key: finished[key] for key in unique}

    def failed_before(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of the cells that failed and were not finished since."""
        failed = {tried: self.ledger.failed(tried) for tried in {cell.tried for cell in cells}}
        return [cell for cell in cells if cell.key in failed[cell.tried]]

    def forget_states(self, trials: Iterable[tuple[RunSpec, int]]) -> None:
        """Delete what trials of these specs and folds, of any number of epochs, keep for longer ones."""
        for spec, fold in trials:
            self._job.states(Cell(spec, fold, "", "", "", *self.digests(spec), tried=True)).forget()

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of the cells that `run` would train, or complete."""
        tested, tried = ([cell for cell in cells if cell.tried is each] for each in (False, True))
        finished = {each: self._found(cells)[0] for each, cells in ((False, tested), (True, tried))}
        return [cell for cell in cells if cell.key not in finished[cell.tried]]

    def _found(self, cells: Collection[Cell]) -> tuple[dict[LedgerKey, str], set[LedgerKey]]:
        """The run ids of those of the cells, of different keys, that the ledger has; of which others it has a trial."""
        found = self.ledger.finished_cells({cell.fingerprint for cell in cells})
        finished = {
            cell.key: found[kind][cell.key]
            for cell in cells
            for kind in reversed(serving(cell.tried))  # the best is written last
            if cell.key in found[kind]
        }
        return finished, {cell.key for cell in cells if cell.key in found[TRIED]} - finished.keys()

    def _train(
        self, missing: list[Cell], finished: dict[LedgerKey, str], progress: Progress
    ) -> dict[LedgerKey, CellEvent]:
        """Train cells or wait for those that another driver is at; fills `finished`, returns the failures."""
        handler = EventHandler(missing, self._job, self.ledger, progress)
        failed: dict[LedgerKey, CellEvent] = {}
        told = False
        while missing:
            elsewhere = self.ledger.elsewhere(self._job.driver)
            ours = [cell for cell in missing if cell.key not in elsewhere]
            done = self._engine.run(ours, handler) if ours else {}
            finished |= {key: event.run_id for key, event in done.items() if event.kind == "finished"}
            failed |= {key: event for key, event in done.items() if event.kind == "failed"}
            missing = [cell for cell in missing if cell.key not in finished and cell.key not in failed]
            if ours:
                # Nobody works for this driver now: what still runs is of a worker that died before it was heard of.
                self.ledger.close_all(self._job.driver, "its worker died")
            if missing and all(event.kind == "elsewhere" for event in done.values()):
                if not told:
                    progress.line(f"waiting for {len(missing)} runs that others are training")
                told = True
                time.sleep(WAIT_SECONDS)
                missing = self._take_over(missing, finished, progress)
        return failed

    def _take_over(self, missing: list[Cell], finished: dict[LedgerKey, str], progress: Progress) -> list[Cell]:
        """Note what others have finished meanwhile and close what they left; returns what is still missing."""
        self.ledger.reconcile()
        theirs = self._found(missing)[0]
        finished |= theirs
        progress.state.record(theirs)
        return [cell for cell in missing if cell.key not in theirs]

    def _summarise(self, cells: Iterable[Cell]) -> None:
        """Bring the parent runs up to date that are not, be it for an earlier stop."""
        asked: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        for cell in cells:
            tested, tried = asked.setdefault((cell.parent_run, cell.fingerprint), ([], []))
            (tried if cell.tried else tested).append(cell.fold)
        for (parent, fingerprint), folds in asked.items():
            if not self.ledger.parents.is_summarised(fingerprint, *folds):
                self.ledger.parents.summarise(parent, fingerprint, *folds, predictions=self.ledger.predictions)

    def _failure(self, name: str, cells: Mapping[LedgerKey, Cell], failed: Mapping[LedgerKey, CellEvent]) -> str:
        alone = "." if name not in ("all", *self.config.strategies) else ", or `bus-mlops train --only-failed`."
        return (
            f"{len(failed)} of {len(cells)} runs of {name} failed; the others are recorded and will not be trained "
            f"again.\n{failure_table(cells, list(failed.values()))}\nMend the cause and run the same command{alone}"
        )


def run_plan(runner: Runner, plan: StrategyPlan, shared: Sequence[Cell] = ()) -> dict[LedgerKey, str]:
    """Train a strategy's missing cells, and `shared` ones of others beside them.

    Returns:
        (fingerprint, fold) -> run id of all of its own.

    Raises:
        CellsFailedError: Some of its own failed. Of others' a warning is enough: their own stage tries again.
    """
    own = plan_cells(runner, plan)
    try:
        runs = runner.run([*own, *shared], plan.strategy)
    except CellsFailedError as error:
        if any(cell.key in error.failed for cell in own):
            raise
        LOG.warning("%d runs of other strategies failed here; their own stages try them again", len(error.failed))
        runs = dict(error.finished)
    return {cell.key: runs[cell.key] for cell in own}


def plan_cells(runner: Runner, plan: StrategyPlan) -> list[Cell]:
    """The cells of a strategy's rows; those of an ensemble's members bear the members' names alone."""
    cells: list[Cell] = []
    for row in plan.rows:
        title = f"{row.model} {row.variant}"
        for member in row.members:
            for spec, folds in plan.trainings(member):
                cells += runner.cells(spec, folds, f"{member.model} {member.variant}", {})
        if row.members:
            continue
        place = row.paper and f"{row.paper.table} | {row.paper.model} | {row.paper.variant}"
        paper = {f"{PAPER}{plan.strategy}": place} if place else {}
        for spec, folds in plan.trainings(row):
            cells += runner.cells(spec, folds, title, {f"{STRATEGY}{plan.strategy}": title, **paper})
    return cells
