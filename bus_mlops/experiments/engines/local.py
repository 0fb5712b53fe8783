"""The default engine: worker processes on this machine, each pinned to its own cores.

A worker keeps one compiled program, so it is given cells of the same program as long as there are any. Threads
belong to a worker, not to the machine, so that the number of workers changes no number.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from bus_mlops.config import LocalEngineConfig
from bus_mlops.environment import quiet
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines import machine, pinning
from bus_mlops.experiments.engines.base import OnEvent
from bus_mlops.experiments.engines.groups import MOST_PROGRAMS, choose
from bus_mlops.spec import LedgerKey

# A cell whose worker dies is given to a fresh worker this many times before it counts as failed; more often where a
# worker fewer leaves more memory.
RETRIES = 1
# What a worker that is told to end has for it.
GOODBYE_SECONDS = 5.0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    number: int
    key: str = ""
    cell: Cell | None = None
    programs: int = 0


class LocalEngine:
    """Trains cells in `config.workers` processes of `config.threads` threads each; in fewer when memory runs out."""

    def __init__(self, job: Job, config: LocalEngineConfig) -> None:
        self._job = job
        self._limit = config.workers or machine.default_workers(config.threads)
        self._kills_for_memory = machine.kills_for_memory()
        self._workers: list[_Worker] = []
        self._scratch = tempfile.TemporaryDirectory(prefix="bus-mlops-", ignore_cleanup_errors=True)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if kind is None and worker.cell is None:
                _send(worker, None)
            else:
                # Inside a long TensorFlow call a worker would not hear a milder signal, and it has nothing to save:
                # its run is closed by the ledger, and a cell's results are recorded in one go at its end.
                worker.process.kill()
        deadline = time.monotonic() + GOODBYE_SECONDS
        for worker in self._workers:
            _gone(worker, deadline)
        self._workers.clear()
        self._scratch.cleanup()

    def run(self, cells: Sequence[Cell], on_event: OnEvent) -> dict[LedgerKey, CellEvent]:
        """Train the cells.

        Returns:
            The last event of each by its key.
        """
        queue = list(cells)
        attempts: dict[LedgerKey, int] = {}
        done: dict[LedgerKey, CellEvent] = {}
        while len(done) < len(cells):
            self._assign(queue)
            for worker in self._ready():
                event = self._receive(worker, attempts, queue)
                if event is None:
                    continue
                on_event(event)
                if event.is_last:
                    done[event.key] = event
        return done

    def _assign(self, queue: list[Cell]) -> None:
        while queue:
            idle = next((w for w in self._workers if w.cell is None), None)
            if idle is None and len(self._workers) >= self._limit:
                return
            busy = {w.key for w in self._workers if w.cell is not None}
            cell = choose(queue, idle.key if idle is not None else "", busy)
            if cell is None:
                return
            key = cell.spec.program_key()
            if idle is not None and idle.key != key and idle.programs >= MOST_PROGRAMS:
                _send(idle, None)
                _gone(idle, time.monotonic() + GOODBYE_SECONDS)  # a fresh one is pinned to the cores that it leaves
                self._workers.remove(idle)
                idle = None
            worker = idle or self._start()
            queue.remove(cell)
            worker.programs += worker.key != key
            worker.cell, worker.key = cell, key
            _send(worker, cell)

    def _ready(self) -> list[_Worker]:
        busy = [w for w in self._workers if w.cell is not None]
        ready = set(wait([w.connection for w in busy]))
        return [w for w in busy if w.connection in ready]

    def _receive(self, worker: _Worker, attempts: dict[LedgerKey, int], queue: list[Cell]) -> CellEvent | None:
        cell = worker.cell
        assert cell is not None  # noqa: S101 - it is one of `_ready`
        try:
            event: CellEvent = worker.connection.recv()
        except (EOFError, ConnectionError):
            return self._replace(worker, cell, attempts, queue)
        if event.is_last:
            worker.cell = None
        return replace(event, worker=worker.number)

    def _replace(self, worker: _Worker, cell: Cell, attempts: dict[LedgerKey, int], queue: list[Cell]) -> CellEvent:
        worker.process.join()
        self._workers.remove(worker)
        reason = f"worker {worker.number} died (exit code {worker.process.exitcode})"
        if self._was_killed_for_memory(worker):
            reason = f"worker {worker.number} was killed because memory ran out"
            if self._limit > 1:
                self._limit -= 1
                queue.insert(0, cell)
                message = f"{reason}; starting it again, with {self._limit} workers in all"
                return CellEvent("lost", *cell.key, worker=worker.number, message=message)
        attempts[cell.key] = attempts.get(cell.key, 0) + 1
        if attempts[cell.key] <= RETRIES:
            queue.insert(0, cell)
            return CellEvent("lost", *cell.key, worker=worker.number, message=f"{reason}; starting it again")
        return CellEvent("failed", *cell.key, worker=worker.number, message=reason)

    def _was_killed_for_memory(self, worker: _Worker) -> bool:
        """Whether the system has killed one more process for want of memory than is accounted for."""
        if worker.process.exitcode != -signal.SIGKILL or machine.kills_for_memory() <= self._kills_for_memory:
            return False
        self._kills_for_memory += 1
        return True

    def _start(self) -> _Worker:
        taken = {w.number for w in self._workers}
        number = next(n for n in range(self._limit) if n not in taken)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._job, self._scratch.name)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours, number)
        self._workers.append(worker)
        return worker


def _send(worker: _Worker, message: Cell | None) -> None:
    # A death is noticed, and dealt with, where the answer is awaited.
    with suppress(BrokenPipeError, ConnectionError):
        worker.connection.send(message)


def _gone(worker: _Worker, deadline: float) -> None:
    """Wait for the end of a worker's process until a moment of the monotonic clock, then kill it."""
    worker.process.join(max(0.1, deadline - time.monotonic()))
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _work(connection: Connection, job: Job, scratch: str) -> None:
    """The life of a worker process, which ends with its driver's; its temporary files go to `scratch`."""

    def tell(event: CellEvent) -> None:
        try:
            connection.send(event)
        except OSError:  # the driver is gone; a run that is at work stays open for the next one to close
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers itself
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    threading.Thread(target=_leave_with_parent, args=(os.getppid(), scratch), daemon=True).start()
    tempfile.tempdir = scratch
    quiet()
    held = pinning.pin(job.threads)
    from bus_mlops.experiments.engines.work import Workbench

    workbench = Workbench(job)
    while True:
        try:
            cell: Cell | None = connection.recv()
        except (EOFError, OSError):  # the driver is gone
            return
        if cell is None:
            pinning.release(held)
            return
        tell(workbench.train(cell, tell))


def _leave_with_parent(parent: int, scratch: str) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)
