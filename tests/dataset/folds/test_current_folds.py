"""Folds that are not those of the benchmark and its audit are refused, whichever of their columns differs."""

from __future__ import annotations

import pandas as pd
import pytest
from fold_examples import example

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.leakage import require_current
from bus_mlops.dataset.folds.make import make_folds
from bus_mlops.errors import DatasetError

MANIFEST, GROUPS = example({"busi": 40, "busis": 40})


def folds(frame: pd.DataFrame) -> Folds:
    return Folds.checked(frame, "folds")


@pytest.fixture
def frame() -> pd.DataFrame:
    return make_folds(MANIFEST, GROUPS, FoldsConfig(), 0)


def test_folds_of_the_benchmark_are_taken(frame: pd.DataFrame) -> None:
    require_current(folds(frame), MANIFEST, GROUPS)
    shuffled = frame.sample(frac=1, random_state=1, ignore_index=True)
    require_current(folds(shuffled), MANIFEST, GROUPS)


@pytest.mark.parametrize(
    ("column", "value"), [("source", "hmss"), ("label", 1), ("case_id", "busi/other"), ("group", "busi/other")]
)
def test_a_column_that_differs_is_named(frame: pd.DataFrame, column: str, value: str | int) -> None:
    row = frame.index[frame["label"] == 0][3]
    frame.loc[row, column] = value
    with pytest.raises(DatasetError, match=rf"{frame.loc[row, 'image_id']} has {column} "):
        require_current(folds(frame), MANIFEST, GROUPS)


def test_an_image_more_or_less_is_named(frame: pd.DataFrame) -> None:
    with pytest.raises(DatasetError, match=frame["image_id"].iloc[-1]):
        require_current(folds(frame.iloc[:-1]), MANIFEST, GROUPS)
    with pytest.raises(DatasetError, match="is not both in the folds and in the benchmark"):
        require_current(folds(frame), MANIFEST.iloc[1:], GROUPS.iloc[1:])
