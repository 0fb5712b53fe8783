"""A driver: the process that holds the store and an engine while it trains; how it starts and how it stops."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import bus_mlops
from bus_mlops.config import Config
from bus_mlops.config.intent import intent_of
from bus_mlops.environment import overridden
from bus_mlops.experiments.cell import Job
from bus_mlops.experiments.engines.choose import make_engine
from bus_mlops.experiments.runner import Runner
from bus_mlops.files import sqlite_file
from bus_mlops.git import git_tags
from bus_mlops.paths import BENCHMARK, CHECKPOINTS, EXTENSIONS, FOLDS, home
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.processes import identity
from bus_mlops.tracking.store import absolute, lock_of
from bus_mlops.training.checkpoint import sweep
from bus_mlops.training.kept_states import sweep_states

LOG = logging.getLogger(__name__)

# Seconds that a stop may spend on closing runs.
CLOSING_SECONDS = 4.0


@contextmanager
def open_runner(config: Config, folds: Path = FOLDS / "folds.csv") -> Iterator[Runner]:
    """A runner on the configured store and these folds; one at a time trains on a local store, others wait."""
    if note := overridden():
        LOG.warning(note)
    driver = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    job = Job(
        benchmark=BENCHMARK.resolve(),
        folds=folds.resolve(),
        tracking=absolute(config.tracking),
        checkpoints=(home() / CHECKPOINTS).resolve(),
        weights_folder=config.weights_folder.resolve() if config.weights_folder is not None else None,
        threads=config.engine.threads,
        driver=driver,
        extensions=EXTENSIONS.resolve(),
        tags=job_tags(config),
        identity=identity("driver"),
        intent=intent_of(config).tags,
    )
    engine = make_engine(job, config.engine)
    with ExitStack() as stack:
        stack.enter_context(_terminate_as_interrupt())
        file = sqlite_file(config.tracking.uri)
        if file is not None:
            stack.enter_context(exclusive(lock_of(file)))
        ledger = Ledger(config.tracking)
        for closed in ledger.reconcile(alone=file is not None):
            LOG.info("closed a run whose process had died: %s", closed)
        sweep(job.checkpoints)
        sweep_states(job.checkpoints)
        runner = Runner(config, ledger, engine, job)
        try:
            with engine:
                yield runner
        except BaseException:
            _close_runs(ledger, driver, runner.at_work_on)
            raise


def _close_runs(ledger: Ledger, driver: str, at_work_on: str) -> None:
    """Close what the stopped workers left open, unless the store does not answer: the next start closes it then."""
    closed = threading.Event()

    def close() -> None:
        with suppress(Exception):
            ledger.close_all(driver, "stopped")
            if at_work_on:
                ledger.show_progress(at_work_on, f"stopped ({time.strftime('%Y-%m-%d %H:%M:%S')})")
            closed.set()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(CLOSING_SECONDS)
    if not closed.is_set():
        LOG.warning("the MLflow store does not answer; the runs at work are closed at the next start")


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file; waits, saying so, while another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        # A warning: with -q it would seem to hang.
        LOG.warning("another training is at work on this store; waiting for it to end ...")
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
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
