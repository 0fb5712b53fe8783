"""Training one cell from start to FINISHED: data, program, fit, predictions, evidence in the ledger.

Runs inside a worker process of any engine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.errors import DamagedRunError, TrainingError
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.cell_predictions import write_predictions
from bus_mlops.experiments.cohort_rows import cohort_rows
from bus_mlops.experiments.completion import COMPLETED_FROM, complete
from bus_mlops.experiments.programs import Programs
from bus_mlops.files import sqlite_file
from bus_mlops.tracking.cell_lock import rival
from bus_mlops.tracking.heartbeat import heartbeat
from bus_mlops.tracking.ledger import CURVES, EPOCHS_TRAINED, MODEL, Ledger
from bus_mlops.training.checkpoint import Checkpoint
from bus_mlops.training.kept_states import used
from bus_mlops.training.state import EpochLog, FitState

if TYPE_CHECKING:
    from bus_mlops.training.fit import CellData, FitResult
    from bus_mlops.training.program import Program

Emit = Callable[[CellEvent], None]
# Below the folder of the checkpoints: what linear probes share.
FEATURES = "features"


def train_cell(cell: Cell, job: Job, programs: Programs, ledger: Ledger, emit: Emit) -> CellEvent:
    """Train a cell and record it; errors are recorded on the run, then raised.

    A cell that the ledger has by now, be it from another driver or from a former life of this task, is not
    trained again; one that was cut off goes on after its last whole epoch.

    Returns:
        Its last event.
    """
    done = _done(cell, ledger)
    if done is not None:
        return done
    run_id = ledger.start(cell.parent_run, cell.run_name, cell.spec, job.run_tags(cell))
    if sqlite_file(job.tracking.uri) is None:
        holder = _rival(cell, job, ledger, run_id)
        if holder is not None:
            ledger.writer.discard(run_id, f"left to {holder}")
            return _event(cell, "elsewhere", message=holder)
    emit(_event(cell, "started", run_id=run_id))
    attempt = _Attempt(cell, job, programs, ledger, run_id, emit)
    try:
        with (
            heartbeat(lambda: ledger.alive(run_id)),
            tempfile.TemporaryDirectory(prefix="bus-cell-") as folder,
        ):
            metrics = attempt.train(Path(folder))
            done = _done(cell, ledger)  # by somebody who took this process for dead, as after a laptop's sleep
            if done is not None:
                ledger.writer.discard(run_id, f"run {done.run_id} was finished before it")
            else:
                ledger.finish(run_id, metrics, Path(folder), attempt.tags(metrics))
    except BaseException as error:
        attempt.tidy_up(error)
        raise
    attempt.put_away()
    return done or _event(cell, "finished", run_id=run_id, values=metrics)


def _rival(cell: Cell, job: Job, ledger: Ledger, run_id: str) -> str | None:
    try:
        return rival(ledger, cell.key, run_id, job.driver, cell.tried)
    except BaseException as error:  # nobody has heard of the run yet, to close it
        with suppress(Exception):
            ledger.writer.fail(run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise


def _done(cell: Cell, ledger: Ledger) -> CellEvent | None:
    found = ledger.finished_run(cell.key, cell.tried)
    return None if found is None else _event(cell, "finished", run_id=found.info.run_id, values=found.data.metrics)


class _Attempt:
    """One attempt at a cell: the run that records it, and how far it is."""

    def __init__(self, cell: Cell, job: Job, programs: Programs, ledger: Ledger, run_id: str, emit: Emit) -> None:
        self._cell = cell
        self._job = job
        self._programs = programs
        self._ledger = ledger
        self._run_id = run_id
        self._emit = emit
        self._images = 0.0  # of an epoch
        self._state = FitState()
        self._checkpoints_fail = False
        self._origin: dict[str, str] = {}
        identity = {
            "fingerprint": cell.fingerprint,
            "fold": str(cell.fold),
            "threads": str(job.threads),
            "tensorflow": job.tags.get("tensorflow", ""),
        }
        self.checkpoint = Checkpoint(job.checkpoints / f"{cell.fingerprint}-{cell.fold}.npz", identity)
        self._states = job.states(cell)
        # What else a state's numbers depend on is in the name of its file.
        self._machine = {name: value for name, value in identity.items() if name != "fingerprint"}

    def train(self, folder: Path) -> dict[str, float]:
        """Train, and write what the run keeps into a folder; returns the metrics."""
        from bus_mlops.training.fit import CellData

        cell, began = self._cell, time.monotonic()
        benchmark = Benchmark.open(self._job.benchmark)
        folds = Folds.open(self._job.folds)
        size = cell.spec.training.input_size
        rows = cohort_rows(benchmark, folds, cell)
        self._images = cell.spec.training.images_per_epoch(len(rows["train"]))
        program = self._programs.get(cell, self._job)
        completed = None if cell.tried else self._complete(program, benchmark, folds, rows, folder)
        if completed is not None:
            return completed
        self._go_on(program)
        prepared = time.monotonic()
        data = CellData(
            benchmark.images(size),
            benchmark.frame["label"].to_numpy(np.int64),
            rows["train"],
            None if cell.is_refit else rows["validation"],
            benchmark.masks(size),
            benchmark.frame["has_mask"].to_numpy(),
        )
        result = self._fit(program, data, benchmark)
        seconds = prepared - began + result.seconds
        metrics = {} if cell.is_refit else write_predictions(program, cell, benchmark, folds, rows, folder)
        pd.DataFrame(result.history).to_csv(folder / CURVES, index=False)
        program.save(folder / MODEL)
        metrics |= {"best_epoch": float(result.best_epoch), **result.chosen}
        metrics["seconds_training"] = seconds
        metrics["images_per_second"] = self._images * cell.spec.training.epochs / seconds
        metrics[EPOCHS_TRAINED] = float(cell.spec.training.epochs - self._state.inherited)
        return metrics

    def _fit(self, program: Program, data: CellData, benchmark: Benchmark) -> FitResult:
        from bus_mlops.training.fit import fit
        from bus_mlops.training.linear_probe import ProbeProgram, fit_probe

        spec, seed = self._cell.spec, self._cell.seed
        if not isinstance(program, ProbeProgram):
            return fit(program, spec, data, seed=seed, on_epoch=self._on_epoch, state=self._state)
        source = benchmark.frame["source"].to_numpy()
        sources = [np.flatnonzero(source == name) for name in sorted(spec.cohort)]
        folder = self._job.checkpoints / FEATURES
        return fit_probe(program, spec, data, seed=seed, sources=sources, on_epoch=self._tell, folder=folder)

    def put_away(self) -> None:
        """A trial that is done keeps its last state for a longer one; any other cell needs nothing any more."""
        epochs = self._cell.spec.training.epochs
        if self._cell.tried and self.checkpoint.epochs == epochs:
            with suppress(OSError):  # then a longer one begins from the start
                self._states.keep(self.checkpoint, epochs)
        self.checkpoint.remove()

    def tags(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """What its run is tagged with at the end."""
        return {"best_epoch": f"{metrics['best_epoch']:.0f}", **self._origin}

    def tidy_up(self, error: BaseException) -> None:
        """Close the run; the error at hand matters more than those met here, which the driver deals with."""
        with suppress(Exception):
            self._ledger.discard_artifacts(self._run_id)
        if isinstance(error, TrainingError):  # it would diverge again
            with suppress(Exception):
                self._keep_last_good()
                self.checkpoint.remove()
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        with suppress(Exception):
            self._ledger.writer.fail(
                self._run_id, "KILLED" if interrupted else "FAILED", f"{type(error).__name__}: {error}"
            )

    def _complete(
        self, program: Program, benchmark: Benchmark, folds: Folds, rows: dict[str, np.ndarray], folder: Path
    ) -> dict[str, float] | None:
        """The metrics of a cell that a trial has trained; None where there is none, or it cannot be taken."""
        trial = None if self._cell.is_refit else self._ledger.tried_run(self._cell.key)
        if trial is None:
            return None
        run_id = trial.info.run_id
        try:
            metrics, logs = complete(self._cell, trial, self._ledger, program, benchmark, folds, rows, folder)
        except (DamagedRunError, TrainingError) as error:
            self._note(f"trained anew, not completed from the trial: {error}", {"completed": f"no: {error}"})
            return None
        self._record(logs)
        self._origin = {COMPLETED_FROM: run_id}
        self._note(f"completed from the trial {run_id}: nothing is trained", self._origin)
        return metrics

    def _go_on(self, program: Program) -> None:
        """Take up what an attempt before this one, or a shorter trial, left; record its epochs for this run too."""
        epochs = self._cell.spec.training.epochs
        notes = []
        try:
            self._state = self.checkpoint.load(program)
            if self.checkpoint.damage:
                notes.append(f"{self.checkpoint.damage}, so the one before is taken")
        except TrainingError as error:
            notes.append(str(error))
        for path in self._states.between(len(self._state.history), epochs):
            try:
                self._state = Checkpoint(path, self._machine).load(program).taken_up(epochs)
            except TrainingError as error:
                notes.append(str(error))
                continue
            used(path)
            break
        done = len(self._state.history)
        if not done:
            if notes:
                self._note(f"begun anew: {'; '.join(notes)}", {"resumed": f"no: {'; '.join(notes)}"})
            return
        self._record(self._state.history)
        whose = " of a shorter trial" if self._state.inherited == done else ""
        lost = "".join(f"; {note}" for note in notes)
        self._note(
            f"goes on after epoch {done} of {epochs}{whose}{lost}", {"resumed": f"after epoch {done}{whose}{lost}"}
        )

    def _record(self, logs: Iterable[EpochLog]) -> None:
        for log in logs:
            self._ledger.writer.epoch(self._run_id, log.epoch, _values(log))

    def _note(self, message: str, tags: dict[str, str]) -> None:
        self._ledger.writer.tag(self._run_id, tags)
        self._emit(_event(self._cell, "note", run_id=self._run_id, epoch=len(self._state.history), message=message))

    def _on_epoch(self, log: EpochLog) -> None:
        self._save_checkpoint()
        self._tell(log)

    def _tell(self, log: EpochLog) -> None:
        rate = self._images / log.seconds
        progress = f"epoch {log.epoch} of {log.epochs}, {rate:.0f} images/s"
        self._ledger.writer.epoch(self._run_id, log.epoch, _values(log), progress)
        values = {**_values(log), "images_per_second": rate}
        self._emit(_event(self._cell, "epoch", run_id=self._run_id, epoch=log.epoch, values=values))

    def _save_checkpoint(self) -> None:
        assert self._programs.program is not None  # noqa: S101 - an epoch has just run on it
        try:
            self.checkpoint.save(self._programs.program, self._state)
        except OSError as error:
            if not self._checkpoints_fail:  # once is enough
                message = f"no checkpoint could be written ({error}); it trains on, but could not go on from here"
                self._note(message, {"checkpoints": message})
            self._checkpoints_fail = True

    def _keep_last_good(self) -> None:
        """Store the best weights before a training diverged, and its learning curve, for a post-mortem."""
        program, best = self._programs.program, self._state.best
        if best is None or program is None:
            return
        program.restore(self._state.best_weights)
        with tempfile.TemporaryDirectory(prefix="bus-cell-") as folder:
            program.save(Path(folder) / MODEL)
            pd.DataFrame([asdict(log) for log in self._state.history]).to_csv(Path(folder) / CURVES, index=False)
            self._ledger.keep(self._run_id, Path(folder), {"checkpoint": f"{MODEL}, of epoch {best.epoch}"})


def _values(log: EpochLog) -> dict[str, float]:
    return {name: value for name, value in asdict(log).items() if name not in ("epoch", "epochs")}


def _event(cell: Cell, kind: str, **values: Any) -> CellEvent:
    return CellEvent(kind, cell.fingerprint, cell.fold, epochs=cell.spec.training.epochs, **values)
