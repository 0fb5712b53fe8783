"""What a trained cell says of its test and its validation images, as files, and the metrics of that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import TEST, VALIDATION, Folds
from bus_mlops.evaluation.boundary import boundary_distances
from bus_mlops.evaluation.metrics import classification_metrics, mask_metrics, mask_overlap, mean_overlaps
from bus_mlops.experiments.cell import VALIDATION_PREFIX, Cell
from bus_mlops.tracking.ledger import MASKS, PREDICTIONS

if TYPE_CHECKING:
    from bus_mlops.training.program import Program


def write_predictions(
    program: Program, cell: Cell, benchmark: Benchmark, folds: Folds, rows: dict[str, np.ndarray], folder: Path
) -> dict[str, float]:
    """Write the predictions of the test and the validation part, where `rows` has it, into a folder.

    Returns:
        Their metrics (fractions).
    """
    frames = [
        _predictions(program, cell, benchmark, folds, part, rows[part], folder)
        for part in (TEST, VALIDATION)
        if part in rows
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
    frame[list(mask_metrics())] = np.nan
    if masks is not None:
        predicted = np.asarray(masks) >= 0.5
        true = benchmark.masks(size)[rows] > 0
        frame["dice"], frame["iou"] = mask_overlap(true, predicted)
        frame["hd95"], frame["nsd"] = boundary_distances(true, predicted)
        if part == TEST:
            packed = np.packbits(predicted.reshape(len(rows), -1), axis=1)
            np.savez_compressed(folder / MASKS, packed=packed, size=size, image_id=frame["image_id"].to_numpy(str))
    return frame


def cell_metrics(frame: pd.DataFrame) -> dict[str, float]:
    """All metrics of a cell's predictions (fractions), those of its validation part as `validation_best_*`.

    A network that only segments has no probability (NaN), hence mask overlap and nothing else; what is undefined is
    left out.
    """
    values: dict[str, float] = {}
    for part, prefix in ((TEST, ""), (VALIDATION, VALIDATION_PREFIX)):
        rows = frame[frame["part"] == part]
        if rows.empty:
            continue
        if rows["probability"].notna().any():
            numbers = classification_metrics(rows["label"].to_numpy(), rows["probability"].to_numpy())
            values.update({f"{prefix}{name}": value for name, value in numbers.items()})
        values.update({f"{prefix}{name}": value for name, value in mean_overlaps(rows).items()})
    return {name: value for name, value in values.items() if value == value}
