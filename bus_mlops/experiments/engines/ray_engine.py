"""The engine for several machines or GPUs: groups of cells that share a program, as tasks of a Ray cluster.

Ray places the tasks, and repeats those whose worker or machine died; a repeated task skips the cells that the
ledger has. Events travel through a mailbox that lives beside the driver, so that no other machine can take it along.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from bus_mlops.config import RayEngineConfig
from bus_mlops.environment import PROCESS, quiet, settings
from bus_mlops.errors import ConfigError, RunError
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines.base import OnEvent
from bus_mlops.experiments.engines.collector import Collector
from bus_mlops.experiments.engines.groups import MOST_PROGRAMS, split
from bus_mlops.experiments.engines.machine import fitting_workers
from bus_mlops.experiments.engines.work import Workbench
from bus_mlops.files import sqlite_file
from bus_mlops.spec import LedgerKey

# Ray gives a group whose worker or machine died to another one this many times.
RETRIES = 3
# Seconds between two looks into the mailbox.
POLL_SECONDS = 0.5
# Seconds that the head of a cluster has for taking a connection.
CONNECT_SECONDS = 10.0
# Only events travel through Ray; images are read from disk. Bytes.
OBJECT_STORE_BYTES = 100_000_000


class RayEngine:
    """Trains groups of cells as Ray tasks, on the cluster at `config.address` or on a Ray of its own.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, job: Job, config: RayEngineConfig) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                "engine.kind is ray, but Ray is not installed. Install it with `pip install 'bus-mlops[ray]'` "
                "(in a clone: `pip install -e '.[ray]'`), or set engine.kind to local."
            )
        self._job = job
        self._config = config
        self._cpus = config.num_cpus or float(config.threads)
        self._tasks: dict[Any, list[Cell]] = {}
        self._numbers = itertools.count()
        self._connected = False
        self._new_mailbox: Any = None
        self._mailbox: Any = None
        self._train: Any = None

    def __enter__(self) -> RayEngine:
        return self

    def _connect(self) -> None:
        import ray

        with _own_signal_handlers(), settings(PROCESS):
            _connect(self._config, self._cpus)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._new_mailbox = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote
        self._train = self._task()
        self._connected = True

    def _task(self) -> Any:
        """What trains a group of cells in a process of Ray's, which ends after so many of them."""
        import ray

        return ray.remote(
            num_cpus=self._cpus,
            num_gpus=self._config.num_gpus,
            max_retries=RETRIES,
            max_calls=MOST_PROGRAMS,  # which `options` would refuse
            scheduling_strategy="SPREAD",
        )(_train_group)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._connected:
            return
        import ray

        with suppress(Exception):  # of a cluster that is gone already
            for task in self._tasks:
                ray.cancel(task, force=True)
        self._tasks.clear()
        ray.shutdown()

    def run(self, cells: Sequence[Cell], on_event: OnEvent) -> dict[LedgerKey, CellEvent]:
        """Train the cells.

        Returns:
            The last event of each by its key.

        Raises:
            RunError: The cluster is lost.
        """
        import ray

        if not self._connected:
            self._connect()
        check_store(self._job.tracking.uri, ray.nodes())
        # One of its own for each call: what comes late of a former call is nobody's concern.
        self._mailbox = self._new_mailbox()
        collector = Collector(on_event)
        for group in split(cells, self._slots()):
            self._submit(group)
        try:
            while self._tasks:
                ready, _ = ray.wait(list(self._tasks), timeout=POLL_SECONDS)
                for event in ray.get(self._mailbox.take.remote()):
                    collector.take(event)
                for task in ready:
                    self._end(task, collector)
        except ray.exceptions.RayError as error:
            raise RunError(
                f"the Ray cluster {self._config.address or 'on this machine'} was lost: {_first_line(error)}. "
                "What was finished is kept: start the cluster and run the same command again."
            ) from error
        return collector.done

    def _submit(self, group: list[Cell]) -> None:
        arguments = group, self._job, self._mailbox, next(self._numbers), self._config.num_gpus
        self._tasks[self._train.remote(*arguments)] = group

    def _end(self, task: Any, collector: Collector) -> None:
        """Take in a task that ended; cells that it never reached since it died too often go to a new one."""
        import ray

        group = self._tasks.pop(task)
        try:
            for event in ray.get(task):
                collector.take(event)
        except (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.OutOfMemoryError,
        ) as error:
            left = collector.give_up(group, f"its worker died {RETRIES + 1} times; Ray says: {_first_line(error)}")
            if left:
                self._submit(left)
        except ray.exceptions.RayTaskError as error:  # the worker could not even be made ready
            collector.fail(group, _last_line(error))

    def _slots(self) -> int:
        """How many groups the cluster can train at once; raises ConfigError when no machine could train one."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        wanted = {"CPU": self._cpus, "GPU": self._config.num_gpus}
        slots = sum(_fits(node, wanted) for node in nodes)
        if not slots:
            there = "; ".join(f"{n.get('CPU', 0):g} CPU, {n.get('GPU', 0):g} GPU" for n in nodes)
            raise ConfigError(
                f"engine asks for {self._cpus:g} CPU and {self._config.num_gpus:g} GPU a group of runs, and no machine "
                f"of the Ray cluster has that many (there: {there}). Lower engine.num_cpus (or threads) or "
                "engine.num_gpus, or add a machine."
            )
        return slots


def check_store(uri: str, nodes: Iterable[Mapping[str, Any]]) -> None:
    """Raise ConfigError when workers on several machines would each write an SQLite file of their own."""
    file = sqlite_file(uri)
    machines = sorted({node["NodeManagerHostname"] for node in nodes if node["Alive"]})
    if file is not None and len(machines) > 1:
        raise ConfigError(
            f"tracking.uri is the SQLite file {file}, which is for one machine, but the Ray cluster has "
            f"{len(machines)}: {', '.join(machines)}. Start an MLflow server and set tracking.uri to it "
            "(docs/how-to/run-on-a-cluster.md)."
        )


class _Mailbox:
    """An actor that keeps events until the driver takes them."""

    def __init__(self) -> None:
        self._events: list[CellEvent] = []

    def put(self, event: CellEvent) -> None:
        self._events.append(event)

    def take(self) -> list[CellEvent]:
        events, self._events = self._events, []
        return events


# Of this process: Ray reuses a worker for several tasks, which then find the program compiled.
_workbench: Workbench | None = None


def _train_group(cells: list[Cell], job: Job, mailbox: Any, number: int, gpus: float) -> list[CellEvent]:
    """A Ray task: train cells one after another, on that many GPUs; returns the last event of each."""
    global _workbench
    quiet()
    if not gpus:  # Ray would leave all of them in sight
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if _workbench is None or _workbench.job != job:
        _workbench = Workbench(job, gpus)

    def emit(event: CellEvent) -> None:
        mailbox.put.remote(replace(event, worker=number))

    ended = []
    for cell in cells:
        event = replace(_workbench.train(cell, emit), worker=number)
        emit(event)
        ended.append(event)
    return ended


def _connect(config: RayEngineConfig, cpus: float) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if config.address is None:
        total = math.ceil((config.workers or fitting_workers(cpus)) * cpus)
        ray.init("local", num_cpus=total, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        return
    try:
        _knock(config.address)
        ray.init(config.address, **quiet)
    except ray.exceptions.AuthenticationError as error:
        raise RunError(
            f"the Ray cluster at {config.address} asks for a token. On this machine: `export RAY_AUTH_MODE=token`, and "
            "the cluster's token in ~/.ray/auth_token (docs/how-to/run-on-a-cluster.md)."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(
            f"there is no Ray cluster at engine.address {config.address!r}: {_first_line(error)}. "
            "Start one (`ray start --head` on one machine, `ray start --address=HOST:6379` on the others; "
            "docs/how-to/run-on-a-cluster.md), or set engine.address to null for a Ray on this machine."
        ) from error


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at HOST:PORT: Ray itself would try for minutes, then end the process."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and SIGTERM: Ray's would leave without closing the ledger's runs."""
    kept: dict[signal.Signals, Callable[..., Any] | int | None] = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _fits(node: dict[str, float], wanted: dict[str, float]) -> int:
    return min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in wanted.items() if amount)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(error: BaseException) -> str:
    """Of an error that brings along the traceback of another process."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
