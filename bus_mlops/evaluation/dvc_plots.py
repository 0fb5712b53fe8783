"""The small csv files behind `dvc plots show` and `dvc plots diff`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.evaluation.headline import APART
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.results import PlannedRow, select_row
from bus_mlops.evaluation.roc import evenly, roc_curve

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("benign", "malignant")

Plans = Mapping[str, list[PlannedRow]]
Predictions = Mapping[str, "pd.DataFrame"]


def row_title(strategy: str, model: str, variant: str) -> str:
    """How plots name a row: strategies may share models, so all three are needed."""
    return f"{strategy}: {model} {variant}"


def roc_points(predictions: Predictions, plans: Plans) -> pd.DataFrame:
    """ROC curves of the pooled out-of-fold predictions: model, false_positive_rate, true_positive_rate.

    Of the rows that classify, and of a family only the chosen one; at most `roc.MOST_CORNERS` corners a curve.
    """
    import pandas as pd

    frames = [pd.DataFrame(columns=["model", "false_positive_rate", "true_positive_rate"])]
    for row in _rows(plans):
        if not (row.classifies and row.headline):
            continue
        part = select_row(predictions[row.strategy], row.model, row.variant)
        false_positive, true_positive, _ = roc_curve(part["label"].to_numpy(), part["probability"].to_numpy())
        kept = evenly(len(false_positive))
        curve = {
            "model": row_title(row.strategy, row.model, row.variant),
            "false_positive_rate": np.round(false_positive[kept], 6),
            "true_positive_rate": np.round(true_positive[kept], 6),
        }
        frames.append(pd.DataFrame(curve))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def confusion_rows(predictions: Predictions, best: tuple[str, str, str] | None) -> pd.DataFrame:
    """One line per test image of one row: model, actual, predicted (class names, at threshold 0.5)."""
    import pandas as pd

    if best is None:
        return pd.DataFrame(columns=["model", "actual", "predicted"])
    strategy, model, variant = best
    part = select_row(predictions[strategy], model, variant)
    names = np.asarray(CLASSES)
    values = {
        "model": row_title(strategy, model, variant),
        "actual": names[part["label"].to_numpy().astype(int)],
        "predicted": names[(part["probability"].to_numpy() >= 0.5).astype(int)],
    }
    return pd.DataFrame(values)


def fold_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """The metrics (fractions) of each fold of each row, from `fold_table`: model, fold, seed and `METRICS`."""
    titles = [row_title(*row) for row in zip(metrics["strategy"], metrics["model"], metrics["variant"], strict=True)]
    return metrics.assign(model=titles)[["model", "fold", "seed", *METRICS]].round(6)


def curve_rows(curves: pd.DataFrame) -> pd.DataFrame:
    """Learning curves averaged over folds: model, epoch, loss, validation_loss, validation_roc_auc."""
    columns = ["model", "epoch", "loss", "validation_loss", "validation_roc_auc"]
    if curves.empty:
        return curves.reindex(columns=columns)
    titles = [row_title(*row) for row in zip(curves["strategy"], curves["model"], curves["variant"], strict=True)]
    named = curves.assign(model=titles)
    return named.groupby(["model", "epoch"], sort=False)[columns[2:]].mean().round(6).reset_index()


def best_row(tables: Mapping[str, pd.DataFrame]) -> tuple[str, str, str] | None:
    """The (strategy, model, variant) of the highest mean ROC AUC, the first on a tie; None if nothing classifies.

    Of a family only the chosen row counts: the best of a grid would have been chosen on test images. Rows of tables
    that stand apart do not count.
    """
    records = [record for name, table in tables.items() if name not in APART for record in table.to_dict("records")]
    candidates = [
        record
        for record in records
        if record["roc_auc_mean"] == record["roc_auc_mean"] and not (record["family"] and record["chosen"] is False)
    ]
    if not candidates:
        return None
    top = max(candidates, key=lambda record: float(record["roc_auc_mean"]))
    return str(top["strategy"]), str(top["model"]), str(top["variant"])


def _rows(plans: Plans) -> list[PlannedRow]:
    return [row for rows in plans.values() for row in rows]
