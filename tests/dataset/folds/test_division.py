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
from bus_mlops.spec import Inner

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


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_no_inner_fold_meets_the_test_part_and_each_image_validates_once(seed, count, size):
    frame = make_folds(*example({"busi": 150, "busis": 120, "hmss": 60}, seed, size), FoldsConfig(), seed)
    for fold in (1, 3):
        outer = parts_of(frame, fold, SOURCES, None)
        divided = [parts_of(frame, fold, SOURCES, 0.2, Inner(fold=n, count=count)) for n in range(1, count + 1)]
        ours = frame.set_index("image_id").loc[outer.index]
        tested = ours[(outer == "test").to_numpy()]
        for parts in divided:
            pd.testing.assert_series_equal(parts[outer == "test"], outer[outer == "test"])
            used = ours[parts.isin(["train", "validation"]).to_numpy()]
            assert set(used.index) == set(outer.index[outer.isin(["train", "validation"])])
            for column in ("case_id", "group"):
                assert not set(used[column]) & set(tested[column])
            whole = parts[used.index].groupby(used["group"]).nunique()
            assert (whole == 1).all()
        validates = pd.concat([parts == "validation" for parts in divided], axis="columns").sum(axis="columns")
        assert set(validates[outer != "test"]) == {1}
        counts = pd.concat([ours[(p == "validation").to_numpy()].value_counts(["source", "label"]) for p in divided])
        spread = counts.groupby(level=[0, 1]).agg(["min", "max"])
        assert (spread["max"] - spread["min"]).max() <= 2 * size + 1


def test_an_inner_fold_follows_from_the_cohorts_rows_alone():
    frame = make_folds(*example({"busi": 90, "busis": 70, "hmss": 60}, 3), FoldsConfig(), 1)
    inner = Inner(fold=2, count=3)
    expected = parts_of(frame, 1, SOURCES, None, inner)
    others = frame[frame["source"] != "hmss"].sample(frac=1, random_state=5)
    swapped = others.replace({"fold_1": {"train": "validation", "validation": "train"}})
    for same in (others, swapped):
        pd.testing.assert_series_equal(parts_of(same, 1, reversed(SOURCES), 0.3, inner), expected)


def test_an_inner_fold_with_one_label_is_named():
    frame = make_folds(*example({"busi": 60}, 2, 1), FoldsConfig(), 1)
    malignant = (frame["fold_1"] != "test") & (frame["label"] == 1)
    left = frame[~malignant | (malignant.cumsum() == 1)]
    for number in (1, 2, 3):
        with pytest.raises(DatasetError, match=r"inner fold \d of 3 of fold 1 would validate on \d+ images of 1 of"):
            parts_of(left, 1, ["busi"], None, Inner(fold=number, count=3))
