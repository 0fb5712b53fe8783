"""Running what a plan asks for and the ledger does not have: the missing cells, and nothing else."""

from __future__ import annotations

import signal
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
from bus_mlops.experiments.engines.local import LocalEngine
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.progress import Progress
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.git import git_tags
from bus_mlops.paths import BENCHMARK, EXTENSIONS, FOLDS
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.store import sqlite_file


class Runner:
    """Holds the data, the ledger and an engine whose workers stay alive between calls."""

    def __init__(self, config: Config, ledger: Ledger, engine: Engine) -> None:
        self.config = config
        self.ledger = ledger
        self.benchmark = Benchmark.open(BENCHMARK)
        self.folds = Folds.open(FOLDS / "folds.csv")
        self._engine = engine

    def cells(self, spec: RunSpec, folds: Sequence[int], title: str, tags: Mapping[str, str]) -> list[Cell]:
        """The cells of a spec, whose parent run is found or created; the one fold of a refit is REFIT."""
        data, split = self.digests(spec)
        leaks = leak_tag(self.folds.frame, spec.cohort)
        is_refit = tuple(folds) == (REFIT,)
        fingerprint = spec.fingerprint(data, split, is_refit)
        parent = self.ledger.parent(
            spec,
            fingerprint,
            title,
            {**job_tags(self.config), **tags, "data_digest": data, "folds_digest": split, "leaks": leaks},
            kind="refit" if is_refit else "spec",
        )
        return [Cell(spec, fold, fingerprint, parent, title, data, split, leaks) for fold in folds]

    def digests(self, spec: RunSpec) -> tuple[str, str]:
        """Digests of the images and of the fold assignment that a spec uses."""
        return digests_of(self.benchmark, self.folds, spec.cohort, spec.network)

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
        progress = Progress(name, missing, already=have)
        results: dict[tuple[str, int], CellEvent] = {}
        if missing:
            for closed in self.ledger.reconcile():
                print(f"[{name}] closed a run whose process had died: {closed}", flush=True)
            results = self._engine.run(missing, self._listener(progress))
        for parent in dict.fromkeys(cell.parent_run for cell in missing):
            self.ledger.summarise(parent, [cell.fold for cell in cells if cell.parent_run == parent])
        self._raise_failures(name, unique, results)
        finished.update({key: event.run_id for key, event in results.items()})
        return {key: finished[key] for key in unique}

    def _listener(self, progress: Progress) -> _Listener:
        return _Listener(self.ledger, progress)

    @staticmethod
    def _raise_failures(
        name: str, cells: Mapping[tuple[str, int], Cell], results: Mapping[tuple[str, int], CellEvent]
    ) -> None:
        failed = [event for event in results.values() if event.kind == "failed"]
        if not failed:
            return
        lines = [
            f"  {cells[e.fingerprint, e.fold].title}, {cells[e.fingerprint, e.fold].scope}: {e.message}"
            for e in sorted(failed, key=lambda e: (e.fingerprint, e.fold))
        ]
        raise RunError(
            f"{len(failed)} of {len(cells)} runs of {name} failed; the others are recorded and will not be "
            "trained again. Mend the cause and run the same command:\n" + "\n".join(lines)
        )


class _Listener:
    """Passes events to the progress and closes the run of a worker that died."""

    def __init__(self, ledger: Ledger, progress: Progress) -> None:
        self._ledger = ledger
        self._progress = progress
        self._running: dict[tuple[str, int], str] = {}

    def __call__(self, event: CellEvent) -> None:
        key = (event.fingerprint, event.fold)
        if event.kind == "started":
            self._running[key] = event.run_id
        elif event.kind in ("finished", "failed", "lost"):
            run_id = self._running.pop(key, None)
            if run_id is not None and event.kind != "finished":
                self._ledger.close_if_running(run_id, event.message)
        self._progress(event)


@contextmanager
def open_runner(config: Config) -> Iterator[Runner]:
    """A runner on the configured store; one at a time trains on a local store, others wait their turn."""
    with ExitStack() as stack:
        stack.enter_context(_terminate_as_interrupt())
        file = sqlite_file(config.tracking.uri)
        if file is not None:
            stack.enter_context(exclusive(file.with_name(f"{file.name}.lock")))
        ledger = Ledger(config.tracking)
        job = Job(
            benchmark=BENCHMARK.resolve(),
            folds=(FOLDS / "folds.csv").resolve(),
            tracking=config.tracking,
            weights_folder=config.weights_folder,
            threads=config.engine.threads,
            extensions=EXTENSIONS.resolve(),
            tags=job_tags(config),
        )
        try:
            with LocalEngine(job, config.engine) as engine:
                yield Runner(config, ledger, engine)
        except KeyboardInterrupt:
            ledger.reconcile()
            raise


def run_plan(runner: Runner, plan: StrategyPlan) -> dict[tuple[str, int], str]:
    """Train a strategy's missing cells; returns (fingerprint, fold) -> run id of all of them."""
    cells: list[Cell] = []
    for row in plan.rows:
        title = f"{row.model} {row.variant}"
        for spec in plan.specs(row):
            cells += runner.cells(spec, plan.folds, title, {f"strategy.{plan.strategy}": title})
    return runner.run(cells, plan.strategy)


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
