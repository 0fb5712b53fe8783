"""Which images of a benchmark a cell trains on, validates on and is tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import PARTS, TEST, TRAIN, UNUSED, Folds, fold_columns
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.errors import DatasetError
from bus_mlops.experiments.cell import Cell


def cohort_rows(benchmark: Benchmark, folds: Folds, cell: Cell) -> dict[str, np.ndarray]:
    """Row numbers of the train, validation and test part of a cell's cohort, in the order of the benchmark.

    Where the spec has a `validation` of its own, or is an inner fold, what the fold trains and validates on is divided
    anew. Images that the fold leaves unused are in none of them. A refit trains on every image that any fold uses, and
    its other parts are empty. A tried cell has no test part: whoever holds its rows cannot predict a test image.

    Raises:
        DatasetError: A part is empty, or cannot be divided anew.
    """
    spec = cell.spec
    if cell.is_refit:
        assigned = _trained_by_refit(folds)
    else:
        assigned = parts_of(folds.frame, cell.fold, spec.cohort, spec.training.validation, spec.inner)
    part = assigned.reindex(benchmark.frame["image_id"]).to_numpy()
    member = benchmark.frame["source"].isin(cell.spec.cohort).to_numpy()
    rows = {name: np.flatnonzero(member & (part == name)) for name in PARTS}
    for name, found in rows.items():
        if not len(found) and not cell.is_refit:
            raise DatasetError(
                f"fold {cell.fold} has no {name} image of {', '.join(cell.spec.cohort)}. Choose other folds "
                "(folds.kind or folds.run in params.yaml) or add sources to the cohort."
            )
    return {name: found for name, found in rows.items() if not (cell.tried and name == TEST)}


def _trained_by_refit(folds: Folds) -> pd.Series:
    frame = folds.frame.set_index("image_id")
    used = frame[fold_columns(frame)].isin(PARTS).any(axis="columns")
    return used.map({True: TRAIN, False: UNUSED})
