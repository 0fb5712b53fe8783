"""Which row of a family (the weights of Table 6, its focal pairs) is chosen: on the validation parts only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import by_cell
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.results import PlannedRow, split_rows

if TYPE_CHECKING:
    import pandas as pd

CRITERION = "f1"


def with_choice(predictions: pd.DataFrame, planned: Sequence[PlannedRow]) -> list[PlannedRow]:
    """The same rows; in each (model, family) one is marked `chosen`: the highest mean validation F1 at 0.5.

    The mean is over (fold, seed); on a tie the first in the plan's order. The paper says that it chose on
    validation, not by which metric. Of its seven, F1 is the only one that explains what it printed: in Table 6
    weighting lowers accuracy, specificity and balanced accuracy of every network below that of cross-entropy,
    which is weight 1 of the grid, and sensitivity alone would favour the largest weight. F1 has a price: where half
    of the images are malignant, calling everything malignant scores 0.67.

    Raises:
        EvaluationError: A row has no validation predictions, or they cannot be measured.
    """
    select = split_rows(predictions, "validation")
    scored = [replace(row, validation=_validation(select(row), row)) if row.family else row for row in planned]
    best: dict[tuple[str, str | None], PlannedRow] = {}
    for row in scored:
        key = row.model, row.family
        if key not in best or row.validation > best[key].validation:
            best[key] = row
    return [replace(row, chosen=bool(row.family) and row is best[row.model, row.family]) for row in scored]


def _validation(part: pd.DataFrame, row: PlannedRow) -> float:
    if part.empty:
        raise EvaluationError(
            f"{row.strategy}: {row.title} has no validation predictions to choose by: "
            f"run `dvc repro train@{row.strategy}`."
        )
    values = []
    for (fold, _), cell in by_cell(part):
        try:
            values.append(METRICS[CRITERION].value(cell["label"].to_numpy(), cell["probability"].to_numpy()))
        except EvaluationError as error:
            raise EvaluationError(f"{row.strategy}: {row.title}, validation part of fold {fold}: {error}") from error
    return float(np.mean(values))
