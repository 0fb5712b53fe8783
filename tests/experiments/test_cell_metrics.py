"""What a cell reports: a network that only segments has mask overlap and no classification metric."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bus_mlops.experiments.cell_predictions import cell_metrics


def frame(probability: float, dice: float) -> pd.DataFrame:
    part = np.repeat(["test", "validation"], 4)
    values = {"part": part, "label": np.tile([0, 1], 4), "probability": probability, "dice": dice, "iou": dice}
    return pd.DataFrame(values)


def test_each_task_reports_what_it_predicts():
    classes, masks, both = (set(cell_metrics(frame(p, d))) for p, d in ((0.7, np.nan), (np.nan, 0.6), (0.7, 0.6)))
    assert masks == {"dice", "iou", "validation_best_dice", "validation_best_iou"}
    assert {"sensitivity", "roc_auc", "validation_best_roc_auc"} <= classes
    assert both == classes | masks
    assert not classes & masks


def test_overlap_is_that_of_its_part():
    given = frame(np.nan, 0.5)
    given.loc[given["part"] == "test", "dice"] = [0.0, 0.2, 0.4, np.nan]
    values = cell_metrics(given)
    assert values["dice"] == np.mean([0.0, 0.2, 0.4])
    assert values["validation_best_dice"] == 0.5
