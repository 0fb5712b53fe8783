"""The small csv files behind `dvc plots show` and `dvc plots diff`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metrics import roc_curve
from bus_mlops.evaluation.results import PlannedRow, select_row
from bus_mlops.evaluation.tables import fold_metrics

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("benign", "malignant")
FOLD_COLUMNS = ("roc_auc", "balanced_accuracy", "accuracy", "sensitivity", "specificity", "f1")

Plans = Mapping[str, list[PlannedRow]]
Predictions = Mapping[str, "pd.DataFrame"]


def row_title(strategy: str, model: str, variant: str) -> str:
    """How plots name a row: strategies may share models, so all three are needed."""
    return f"{strategy}: {model} {variant}"


def roc_points(predictions: Predictions, plans: Plans) -> pd.DataFrame:
    """ROC curves of the pooled out-of-fold predictions: model, false_positive_rate, true_positive_rate."""
    import pandas as pd

    frames = []
    for row in _rows(plans):
        part = select_row(predictions[row.strategy], row.model, row.variant)
        false_positive, true_positive, _ = roc_curve(part["label"].to_numpy(), part["probability"].to_numpy())
        curve = {
            "model": row_title(row.strategy, row.model, row.variant),
            "false_positive_rate": np.round(false_positive, 6),
            "true_positive_rate": np.round(true_positive, 6),
        }
        frames.append(pd.DataFrame(curve))
    return pd.concat(frames, ignore_index=True)


def confusion_rows(predictions: Predictions, best: tuple[str, str, str]) -> pd.DataFrame:
    """One line per test image of one row: model, actual, predicted (class names, at threshold 0.5)."""
    import pandas as pd

    strategy, model, variant = best
    part = select_row(predictions[strategy], model, variant)
    names = np.asarray(CLASSES)
    values = {
        "model": row_title(strategy, model, variant),
        "actual": names[part["label"].to_numpy().astype(int)],
        "predicted": names[(part["probability"].to_numpy() >= 0.5).astype(int)],
    }
    return pd.DataFrame(values)


def fold_rows(predictions: Predictions, plans: Plans) -> pd.DataFrame:
    """The metrics (fractions) of each fold of each row: model, fold, seed and `FOLD_COLUMNS`."""
    import pandas as pd

    frames = []
    for row in _rows(plans):
        title = row_title(row.strategy, row.model, row.variant)
        frame = fold_metrics(select_row(predictions[row.strategy], row.model, row.variant), title)
        frame.insert(0, "model", title)
        frames.append(frame[["model", "fold", "seed", *FOLD_COLUMNS]].round(6))
    return pd.concat(frames, ignore_index=True)


def curve_rows(curves: pd.DataFrame) -> pd.DataFrame:
    """Learning curves averaged over folds: model, epoch, loss, validation_loss, validation_roc_auc."""
    columns = ["model", "epoch", "loss", "validation_loss", "validation_roc_auc"]
    if curves.empty:
        return curves.reindex(columns=columns)
    titles = [row_title(*row) for row in zip(curves["strategy"], curves["model"], curves["variant"], strict=True)]
    named = curves.assign(model=titles)
    return named.groupby(["model", "epoch"], sort=False)[columns[2:]].mean().round(6).reset_index()


def best_row(tables: Mapping[str, pd.DataFrame]) -> tuple[str, str, str]:
    """The (strategy, model, variant) of the highest mean ROC AUC; the first one on a tie."""
    candidates = [record for table in tables.values() for record in table.to_dict("records")]
    if not candidates:
        raise EvaluationError("no strategy has a row: put one into `strategies` of params.yaml.")
    top = max(candidates, key=lambda record: float(record["roc_auc_mean"]))
    return str(top["strategy"]), str(top["model"]), str(top["variant"])


def _rows(plans: Plans) -> list[PlannedRow]:
    return [row for rows in plans.values() for row in rows]
