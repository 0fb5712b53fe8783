"""Completing a cell of which there is only a trial: its test images are predicted with the trial's weights.

Nothing is trained, and all numbers are those of a training anew: weights, curves and validation predictions are the
trial's, which is checked.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import VALIDATION, Folds
from bus_mlops.errors import TrainingError
from bus_mlops.evaluation.results import ADDED_COLUMNS
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.cell_predictions import write_predictions
from bus_mlops.tracking.ledger import CURVES, EPOCHS_TRAINED, MODEL, PREDICTIONS, Ledger
from bus_mlops.training.state import EpochLog

if TYPE_CHECKING:
    from mlflow.entities import Run

    from bus_mlops.training.program import Program

# Probabilities and overlaps (fractions) that differ by less are the same, computed by another processor.
FLOAT_NOISE = 1e-5
PREDICTED = ("probability", "dice", "iou")
# Those metrics of the trial that say how its weights came about.
OF_TRAINING = ("best_epoch", "seconds_training", "images_per_second")
# The tag that names the trial.
COMPLETED_FROM = "completed_from"


def complete(
    cell: Cell,
    trial: Run,
    ledger: Ledger,
    program: Program,
    benchmark: Benchmark,
    folds: Folds,
    rows: dict[str, np.ndarray],
    folder: Path,
) -> tuple[dict[str, float], list[EpochLog]]:
    """Write what the run of the cell keeps into a folder.

    Returns:
        Its metrics, and the trial's epochs.

    Raises:
        DamagedRunError: A file of the trial is not what it recorded.
        TrainingError: The weights do not fit, or predict otherwise than they did.
    """
    with tempfile.TemporaryDirectory(prefix="bus-trial-") as scratch:
        names = (MODEL, CURVES, PREDICTIONS)
        files = {name: ledger.artifact(trial.info.run_id, name, Path(scratch)) for name in names}
        program.load(files[MODEL])
        metrics = write_predictions(program, cell, benchmark, folds, rows, folder)
        check_same(folder / PREDICTIONS, files[PREDICTIONS], trial.info.run_id)
        for name in (MODEL, CURVES):
            shutil.copyfile(files[name], folder / name)
        curves = pd.read_csv(files[CURVES])
    metrics |= {name: trial.data.metrics[name] for name in OF_TRAINING if name in trial.data.metrics}
    columns = [each.name for each in fields(EpochLog)]
    logs = [EpochLog(int(epoch), int(of), *rest) for epoch, of, *rest in curves[columns].to_numpy().tolist()]
    return {**metrics, EPOCHS_TRAINED: 0.0}, logs


def check_same(ours: Path, theirs: Path, run_id: str) -> None:
    """Raise TrainingError where the validation part of two files of predictions differs by more than float noise.

    What an earlier version did not record is not compared.
    """
    frames = []
    for path in (ours, theirs):
        frame = pd.read_csv(path)
        frames.append(frame[frame["part"] == VALIDATION].reset_index(drop=True))
    predicted = [*PREDICTED, *(name for name in ADDED_COLUMNS if all(name in frame for frame in frames))]
    here, there = (frame.drop(columns=[*PREDICTED, *ADDED_COLUMNS], errors="ignore") for frame in frames)
    if not here.equals(there):
        raise TrainingError(f"the validation part of run {run_id} has other images")
    now, then = (frame[predicted].to_numpy(np.float64) for frame in frames)
    if not np.allclose(now, then, rtol=0, atol=FLOAT_NOISE, equal_nan=True):
        raise TrainingError(
            f"the weights of run {run_id} predict otherwise here than where they were trained, by up to "
            f"{np.nanmax(np.abs(now - then)):.2g}"
        )
