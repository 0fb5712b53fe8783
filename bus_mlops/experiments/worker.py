"""Training one cell from start to FINISHED: data, program, fit, predictions, evidence in the ledger.

Runs inside a worker process of any engine. Programs are kept between cells: see `Programs`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bus_mlops.dataset.folds import PARTS, TRAIN, UNUSED, Folds, fold_columns
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.errors import DatasetError, TrainingError
from bus_mlops.evaluation.metrics import classification_metrics, mask_overlap
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.last_good import LastGood
from bus_mlops.tracking.claims import rival
from bus_mlops.tracking.heartbeat import heartbeat
from bus_mlops.tracking.ledger import CURVES, MASKS, MODEL, PREDICTIONS, Ledger
from bus_mlops.tracking.store import sqlite_file

if TYPE_CHECKING:
    from bus_mlops.training.fit import EpochLog
    from bus_mlops.training.program import Program

Emit = Callable[[CellEvent], None]


class Programs:
    """The compiled program of the latest key; another key replaces it, so that memory stays bounded."""

    def __init__(self) -> None:
        self.key = ""
        self.program: Program | None = None

    def get(self, cell: Cell, job: Job) -> Program:
        """The program for a cell, compiled anew only when the key differs from the latest one."""
        import keras

        from bus_mlops.models.extensions import load_extensions
        from bus_mlops.training.program import Program

        if self.program is None or self.key != cell.spec.program_key():
            self.program = None
            load_extensions(job.extensions)
            keras.backend.clear_session(free_memory=True)
            self.program = Program(cell.spec, weights_folder=job.weights_folder)
            self.key = cell.spec.program_key()
        return self.program


def train_cell(cell: Cell, job: Job, programs: Programs, ledger: Ledger, emit: Emit) -> CellEvent:
    """Train a cell and record it; returns its last event. Errors are recorded on the run, then raised.

    A cell that the ledger has by now, be it from another driver or from a former life of this task, is not
    trained again.
    """
    done = ledger.finished_run(cell.key)
    if done is not None:
        return _event(cell, "finished", run_id=done.info.run_id, values=done.data.metrics)
    run_id = ledger.start(cell.parent_run, f"{cell.title} / {cell.scope}", cell.spec, _tags(cell, job))
    if sqlite_file(job.tracking.uri) is None:
        holder = rival(ledger, cell.key, run_id, job.driver)
        if holder is not None:
            ledger.client.delete_run(run_id)
            return _event(cell, "elsewhere", message=holder)
    emit(_event(cell, "started", run_id=run_id))
    best = LastGood()
    try:
        with (
            heartbeat(lambda: ledger.alive(run_id)),
            tempfile.TemporaryDirectory(prefix="bus-cell-") as folder,
        ):
            metrics = _train(cell, job, programs, ledger, run_id, Path(folder), emit, best)
            ledger.finish(run_id, metrics, Path(folder), {"best_epoch": f"{metrics['best_epoch']:.0f}"})
    except BaseException as error:
        # The error at hand matters more than one met while tidying up after it.
        with suppress(Exception):
            ledger.discard_artifacts(run_id)
        if isinstance(error, TrainingError):
            with suppress(Exception):
                best.keep(programs.program, ledger, run_id)
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        ledger.fail(run_id, "KILLED" if interrupted else "FAILED", f"{type(error).__name__}: {error}")
        raise
    return _event(cell, "finished", run_id=run_id, values=metrics)


def _tags(cell: Cell, job: Job) -> dict[str, str]:
    return {
        "fingerprint": cell.fingerprint,
        "fold": str(cell.fold),
        "data_digest": cell.data_digest,
        "folds_digest": cell.folds_digest,
        "leaks": cell.leaks,
        "network": cell.spec.network,
        "driver": job.driver,
        **job.tags,
    }


def _train(
    cell: Cell, job: Job, programs: Programs, ledger: Ledger, run_id: str, folder: Path, emit: Emit, best: LastGood
) -> dict[str, float]:
    from bus_mlops.training.fit import fit

    began = time.monotonic()
    benchmark = Benchmark.open(job.benchmark)
    folds = Folds.open(job.folds)
    size = cell.spec.training.input_size
    part = cohort_parts(benchmark, folds, cell)
    images, masks = benchmark.images(size), benchmark.masks(size)
    labels = benchmark.frame["label"].to_numpy(np.int64)
    program = programs.get(cell, job)

    def on_epoch(log: EpochLog) -> None:
        values = {k: v for k, v in asdict(log).items() if k not in ("epoch", "epochs")}
        best.note(log, program)
        rate = len(part["train"]) / log.seconds
        ledger.epoch(run_id, log.epoch, values, f"epoch {log.epoch} of {log.epochs}, {rate:.0f} images/s")
        emit(_event(cell, "epoch", run_id=run_id, epoch=log.epoch, values={**values, "images_per_second": rate}))

    result = fit(
        program,
        cell.spec,
        images,
        labels,
        masks,
        part["train"],
        None if cell.is_refit else part["validation"],
        seed=cell.seed,
        has_mask=benchmark.frame["has_mask"].to_numpy(),
        on_epoch=on_epoch,
    )
    trained = time.monotonic()
    metrics = {} if cell.is_refit else _predict(program, cell, benchmark, folds, part, folder)
    pd.DataFrame(result.history).to_csv(folder / CURVES, index=False)
    program.save(folder / MODEL)
    metrics["best_epoch"] = float(result.best_epoch)
    metrics["seconds_training"] = trained - began
    metrics["images_per_second"] = len(part["train"]) * cell.spec.training.epochs / (trained - began)
    return metrics


def cohort_parts(benchmark: Benchmark, folds: Folds, cell: Cell) -> dict[str, np.ndarray]:
    """Row numbers of the train, validation and test part of a cell's cohort, in manifest order.

    Images that the fold leaves unused are in none of them; raises DatasetError when a part is empty. A refit trains
    on every image that any fold uses, and its other parts are empty.
    """
    assigned = _trained_by_refit(folds) if cell.is_refit else folds.parts(cell.fold)
    part = assigned.reindex(benchmark.frame["image_id"]).to_numpy()
    member = benchmark.frame["source"].isin(cell.spec.cohort).to_numpy()
    rows = {name: np.flatnonzero(member & (part == name)) for name in PARTS}
    for name, found in rows.items():
        if not len(found) and not cell.is_refit:
            raise DatasetError(
                f"fold {cell.fold} has no {name} image of {', '.join(cell.spec.cohort)}. Choose other folds "
                "(folds.kind or folds.run in params.yaml) or add sources to the cohort."
            )
    return rows


def _trained_by_refit(folds: Folds) -> pd.Series:
    frame = folds.frame.set_index("image_id")
    used = (frame[fold_columns(frame)] != UNUSED).any(axis="columns")
    return used.map({True: TRAIN, False: UNUSED})


def _predict(
    program: Program, cell: Cell, benchmark: Benchmark, folds: Folds, part: dict[str, np.ndarray], folder: Path
) -> dict[str, float]:
    """Write the predictions of the test and the validation part; returns their metrics."""
    frames = [
        _predictions(program, cell, benchmark, folds, name, part[name], folder) for name in ("test", "validation")
    ]
    frame = pd.concat(frames, ignore_index=True)
    frame.to_csv(folder / PREDICTIONS, index=False)
    return cell_metrics(frame)


def _predictions(
    program: Program,
    cell: Cell,
    benchmark: Benchmark,
    folds: Folds,
    part: str,
    rows: np.ndarray,
    folder: Path,
) -> pd.DataFrame:
    size = cell.spec.training.input_size
    probability, masks = program.predict(benchmark.images(size), rows)
    frame = benchmark.frame.iloc[rows][["image_id", "case_id", "source", "label"]].reset_index(drop=True)
    group = folds.frame.set_index("image_id")["group"]
    frame["group"] = group.reindex(frame["image_id"]).to_numpy()
    frame.insert(0, "part", part)
    frame.insert(0, "fold", cell.fold)
    frame["probability"] = probability
    frame["dice"], frame["iou"] = np.nan, np.nan
    if masks is not None:
        predicted = np.asarray(masks) >= 0.5
        true = benchmark.masks(size)[rows] > 0
        frame["dice"], frame["iou"] = mask_overlap(true, predicted)
        if part == "test":
            packed = np.packbits(predicted.reshape(len(rows), -1), axis=1)
            np.savez_compressed(folder / MASKS, packed=packed, size=size, image_id=frame["image_id"].to_numpy(str))
    return frame


def cell_metrics(frame: pd.DataFrame) -> dict[str, float]:
    """All metrics of a cell's predictions (fractions), those of its validation part as `validation_best_*`.

    A network that only segments has no probability (NaN), hence mask overlap and nothing else.
    """
    values: dict[str, float] = {}
    for part, prefix in (("test", ""), ("validation", "validation_best_")):
        rows = frame[frame["part"] == part]
        if rows["probability"].notna().any():
            numbers = classification_metrics(rows["label"].to_numpy(), rows["probability"].to_numpy())
            values.update({f"{prefix}{name}": value for name, value in numbers.items()})
        if rows["dice"].notna().any():
            values[f"{prefix}dice"] = float(rows["dice"].mean())
            values[f"{prefix}iou"] = float(rows["iou"].mean())
    return values


def _event(cell: Cell, kind: str, **values: Any) -> CellEvent:
    return CellEvent(kind, cell.fingerprint, cell.fold, epochs=cell.spec.training.epochs, **values)
