"""A trial's predictions that an earlier version recorded are compared in what they hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bus_mlops.errors import TrainingError
from bus_mlops.evaluation.results import ADDED_COLUMNS
from bus_mlops.experiments.completion import check_same

NOW = pd.DataFrame(
    {"part": ["validation"] * 2, "image_id": ["a", "b"], "probability": [0.25, 0.75], "dice": [0.5, float("nan")]}
).assign(iou=lambda frame: frame["dice"] / (2 - frame["dice"]), hd95=[0.125, float("nan")], nsd=[0.75, float("nan")])


def written(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


def test_what_was_added_since_is_not_compared_and_everything_else_is(tmp_path):
    ours = written(NOW, tmp_path / "ours.csv")
    for then in (NOW, NOW.drop(columns=list(ADDED_COLUMNS))):
        check_same(ours, written(then, tmp_path / "theirs.csv"), "run")
        check_same(written(then, tmp_path / "theirs.csv"), ours, "run")
    for name, value in (("probability", 0.3), ("dice", 0.6), ("nsd", 0.7)):
        with pytest.raises(TrainingError, match="predict otherwise here"):
            check_same(ours, written(NOW.assign(**{name: value}), tmp_path / "theirs.csv"), "run")
    with pytest.raises(TrainingError, match="has other images"):
        check_same(ours, written(NOW.assign(image_id=["a", "c"]), tmp_path / "theirs.csv"), "run")
