"""Running what a plan asks for and the ledger does not have: the missing cells, and nothing else."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import bus_mlops
from bus_mlops.config import Config
from bus_mlops.dataset.folds import Folds
from bus_mlops.dataset.leakage import leak_tag
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.errors import RunError
from bus_mlops.experiments.cell import REFIT, Cell, CellEvent, Job
from bus_mlops.experiments.digests import digests_of
from bus_mlops.experiments.engines.base import Engine
from bus_mlops.experiments.engines.choose import make_engine
from bus_mlops.experiments.failures import failure_table
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.progress import Progress
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.git import git_tags
from bus_mlops.paths import BENCHMARK, CHECKPOINTS, EXTENSIONS, FOLDS
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.store import absolute, sqlite_file

# Seconds between two looks whether another driver has finished the cells that are left.
WAIT = 15.0
# Seconds that a stop may spend on closing runs.
CLOSING = 4.0


class Runner:
    """Holds the data, the ledger and an engine whose workers stay alive between calls."""

    def __init__(self, config: Config, ledger: Ledger, engine: Engine, driver: str) -> None:
        self.config = config
        self.ledger = ledger
        self.benchmark = Benchmark.open(BENCHMARK)
        self.folds = Folds.open(FOLDS / "folds.csv")
        self._engine = engine
        self._driver = driver
        self._tags = job_tags(config)
        self._of_cohort: dict[tuple[str, ...], tuple[str, str, str]] = {}

    def cells(self, spec: RunSpec, folds: Sequence[int], title: str, tags: Mapping[str, str]) -> list[Cell]:
        """The cells of a spec, whose parent run is found or created; the one fold of a refit is REFIT."""
        data, split, leaks = self._describe(spec)
        is_refit = tuple(folds) == (REFIT,)
        fingerprint = spec.fingerprint(data, split, is_refit)
        tags = {**self._tags, **tags, "data_digest": data, "folds_digest": split, "leaks": leaks}
        parent = self.ledger.parent(spec, fingerprint, title, tags, kind="refit" if is_refit else "spec")
        return [Cell(spec, fold, fingerprint, parent, title, data, split, leaks) for fold in folds]

    def digests(self, spec: RunSpec) -> tuple[str, str]:
        """Digests of the images and of the fold assignment that a spec uses."""
        return self._describe(spec)[:2]

    def _describe(self, spec: RunSpec) -> tuple[str, str, str]:
        """Digest of the images, digest of the folds, and what leaks: the same for every spec of a cohort."""
        cohort = tuple(sorted(spec.cohort))
        if cohort not in self._of_cohort:
            digests = digests_of(self.benchmark, self.folds, spec.cohort, spec.network)
            self._of_cohort[cohort] = *digests, leak_tag(self.folds.frame, cohort)
        return self._of_cohort[cohort]

    def run(self, cells: Sequence[Cell], name: str) -> dict[tuple[str, int], str]:
        """Train what the ledger does not have; returns the run id of every cell; raises RunError on failures."""
        finished = self.ledger.finished()
        unique = {cell.key: cell for cell in cells}
        missing = [cell for key, cell in unique.items() if key not in finished]
        have = len(unique) - len(missing)
        print(
            f"[{name}] {len(unique)} runs, {have} of them recorded already, {len(missing)} to train",
            flush=True,
        )
        failed: list[CellEvent] = []
        if missing:
            with Progress(name, missing, have, lambda text: self.ledger.show_progress(name, text)) as progress:
                failed = self._train(missing, finished, progress)
        for parent in dict.fromkeys(cell.parent_run for cell in missing):
            self.ledger.summarise(parent, [cell.fold for cell in cells if cell.parent_run == parent])
        if failed:
            raise RunError(
                f"{len(failed)} of {len(unique)} runs of {name} failed; the others are recorded and will not be "
                f"trained again.\n{failure_table(unique, failed)}\n"
                "Mend the cause and run the same command, or `bus-mlops train --only-failed` to repeat these alone."
            )
        return {key: finished[key] for key in unique}

    def failed_before(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of the cells whose latest run is FAILED."""
        failed = self.ledger.failed()
        return [cell for cell in cells if cell.key in failed]

    def _train(self, missing: list[Cell], finished: dict[tuple[str, int], str], progress: Progress) -> list[CellEvent]:
        """Train cells or wait for those that another driver is at; fills `finished`, returns the failures."""
        listener = _Listener(self.ledger, progress)
        failed: dict[tuple[str, int], CellEvent] = {}
        waited = False
        while missing:
            elsewhere = self.ledger.elsewhere(self._driver)
            ours = [cell for cell in missing if cell.key not in elsewhere]
            if ours:
                for key, event in self._engine.run(ours, listener).items():
                    if event.kind == "failed":
                        failed[key] = event
                    elif event.kind == "finished":
                        finished[key] = event.run_id
                # Nobody works for this driver now: what still runs is of a worker that died before it was heard of.
                self.ledger.close_all(self._driver, "its worker died")
            else:
                if not waited:
                    others = ", ".join(sorted({elsewhere[cell.key] for cell in missing}))
                    progress.line(f"waiting for {len(missing)} runs that are being trained by {others}")
                waited = True
                time.sleep(WAIT)
                found = self.ledger.finished()
                theirs = {cell.key: found[cell.key] for cell in missing if cell.key in found}
                finished.update(theirs)
                progress.state.record(theirs)
            missing = [cell for cell in missing if cell.key not in finished and cell.key not in failed]
        return list(failed.values())


class _Listener:
    """Passes events to the progress and closes the run of a worker that died."""

    def __init__(self, ledger: Ledger, progress: Progress) -> None:
        self._ledger = ledger
        self._progress = progress
        self._running: dict[tuple[str, int], str] = {}

    def __call__(self, event: CellEvent) -> None:
        if event.kind == "started":
            self._running[event.key] = event.run_id
        elif event.kind == "lost" or event.is_last:
            run_id = self._running.pop(event.key, None)
            if run_id is not None and event.kind != "finished":
                self._ledger.close_if_running(run_id, event.message)
        self._progress(event)


@contextmanager
def open_runner(config: Config) -> Iterator[Runner]:
    """A runner on the configured store; one at a time trains on a local store, others wait their turn."""
    driver = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    job = Job(
        benchmark=BENCHMARK.resolve(),
        folds=(FOLDS / "folds.csv").resolve(),
        tracking=absolute(config.tracking),
        checkpoints=CHECKPOINTS.resolve(),
        weights_folder=config.weights_folder.resolve() if config.weights_folder is not None else None,
        threads=config.engine.threads,
        driver=driver,
        extensions=EXTENSIONS.resolve(),
        tags=job_tags(config),
    )
    engine = make_engine(job, config.engine)
    with ExitStack() as stack:
        stack.enter_context(_terminate_as_interrupt())
        file = sqlite_file(config.tracking.uri)
        if file is not None:
            stack.enter_context(exclusive(file.with_name(f"{file.name}.lock")))
        ledger = Ledger(config.tracking)
        for closed in ledger.reconcile():
            print(f"closed a run whose process had died: {closed}", flush=True)
        try:
            with engine:
                yield Runner(config, ledger, engine, driver)
        except BaseException:
            _close_runs(ledger, driver)
            raise


def _close_runs(ledger: Ledger, driver: str) -> None:
    """Close what the stopped workers left open, unless the store does not answer: the next start closes it then."""
    closing = threading.Thread(target=ledger.close_all, args=(driver, "stopped"), daemon=True)
    closing.start()
    closing.join(CLOSING)
    if closing.is_alive():
        print("the MLflow store does not answer; the runs at work are closed at the next start", flush=True)


def run_plan(runner: Runner, plan: StrategyPlan) -> dict[tuple[str, int], str]:
    """Train a strategy's missing cells; returns (fingerprint, fold) -> run id of all of them."""
    return runner.run(plan_cells(runner, plan), plan.strategy)


def plan_cells(runner: Runner, plan: StrategyPlan) -> list[Cell]:
    """The cells of a strategy's rows."""
    cells: list[Cell] = []
    for row in plan.rows:
        title = f"{row.model} {row.variant}"
        for spec in plan.specs(row):
            cells += runner.cells(spec, plan.folds, title, {f"strategy.{plan.strategy}": title})
    return cells


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file; waits, saying so, while another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print("another training is at work on this store; waiting for it to end ...", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def job_tags(config: Config) -> dict[str, str]:
    """Tags that say how a run came about: profile, kind of data, versions, commit."""
    from importlib.metadata import version

    return {
        "profile": config.profile,
        "data_kind": config.data.kind,
        "folds_kind": config.folds.kind,
        "bus_mlops": bus_mlops.__version__,
        "tensorflow": version("tensorflow-cpu" if _has("tensorflow-cpu") else "tensorflow"),
        **git_tags(),
    }


def _has(distribution: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
