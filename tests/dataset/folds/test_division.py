"""A network's own fraction that validates: the same tests, groups whole, sources and labels balanced, nobody asked."""

from __future__ import annotations

import pandas as pd
import pytest
from fold_examples import example
from hypothesis import given, settings
from hypothesis import strategies as st

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.dataset.folds.make import make_folds
from bus_mlops.errors import DatasetError

SOURCES = ("busi", "busis")


@given(
    st.integers(0, 10**6), st.floats(0.1, 0.4), st.integers(1, 6), st.sampled_from(["grouped", "source", "image-level"])
)
@settings(max_examples=30, deadline=None)
def test_only_the_division_of_training_and_validation_changes(seed, validation, size, kind):
    frame = make_folds(*example({"busi": 150, "busis": 120, "hmss": 60}, seed, size), FoldsConfig(kind=kind), seed)
    for fold in (2, 3):
        before = parts_of(frame, fold, SOURCES, None)
        after = parts_of(frame, fold, SOURCES, validation)
        ours = frame[frame["source"].isin(SOURCES)].set_index("image_id")
        pd.testing.assert_series_equal(before.sort_index(), ours[f"fold_{fold}"].sort_index())
        learnt = before.isin(["train", "validation"])
        pd.testing.assert_series_equal(after[~learnt], before[~learnt])
        assert set(after[learnt]) == {"train", "validation"}

        rows = ours.loc[after.index[learnt]].assign(validates=after[learnt] == "validation")
        assert (rows.groupby("group")["validates"].nunique() == 1).all()
        assert rows.groupby("group")["validates"].first().mean() == pytest.approx(validation, abs=0.05)
        counts = rows.groupby(["source", "label"])["validates"].agg(["sum", "size"])
        assert (counts["sum"] - validation * counts["size"]).abs().max() <= size + 1


def test_it_follows_from_the_cohorts_rows_alone():
    """All that a fingerprint covers: neither other sources, nor the order of rows, nor the former division."""
    frame = make_folds(*example({"busi": 90, "busis": 70, "hmss": 60}, 3), FoldsConfig(), 1)
    expected = parts_of(frame, 1, SOURCES, 0.3)
    others = frame[frame["source"] != "hmss"].sample(frac=1, random_state=5)
    swapped = others.replace({"fold_1": {"train": "validation", "validation": "train"}})
    for same in (others, swapped):
        pd.testing.assert_series_equal(parts_of(same, 1, reversed(SOURCES), 0.3), expected)
    assert (parts_of(frame.assign(fold_2=frame["fold_1"]), 2, SOURCES, 0.3) != expected).any()  # a fold has its own


def test_a_part_with_one_label_is_named():
    frame = make_folds(*example({"busi": 60}, 2, 1), FoldsConfig(), 1)
    learnt = frame["fold_1"] != "test"
    malignant = learnt & (frame["label"] == 1)
    left = frame[~malignant | (malignant.cumsum() == 1)]
    with pytest.raises(
        DatasetError, match=r"part of fold 1, divided anew with validation 0\.2, would hold \d+ images of 1"
    ):
        parts_of(left, 1, ["busi"], 0.2)
