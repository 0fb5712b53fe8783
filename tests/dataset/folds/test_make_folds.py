"""Folds: groups whole, each image tested once, balanced, independent of row order; hand edits are checked."""

import numpy as np
import pandas as pd
import pytest
from fold_examples import example
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.folds.assignment import PARTS, Folds
from bus_mlops.dataset.folds.leakage import check_leakage, describe, require_current
from bus_mlops.dataset.folds.make import make_folds
from bus_mlops.dataset.folds.partition import partition
from bus_mlops.errors import DatasetError, LeakageError


@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.1, 0.4), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_groups_stay_whole_and_every_image_is_tested_once(seed, count, validation, size):
    manifest, groups = example({"busi": 150, "hmss": 120}, seed, size)
    frame = make_folds(manifest, groups, FoldsConfig(count=count, validation=validation), seed)
    folds = Folds.checked(frame, "made", manifest["image_id"])
    assert check_leakage(folds)["leaks"] == 0
    columns = frame[[f"fold_{fold}" for fold in range(1, count + 1)]].to_numpy(dtype=str)
    assert ((columns == "test").sum(axis=1) == 1).all()
    for fold in range(1, count + 1):
        rows = frame.assign(part=frame[f"fold_{fold}"])
        training = rows[rows["part"] != "test"]
        share = training.loc[training["part"] == "validation", "group"].nunique() / training["group"].nunique()
        assert share == pytest.approx(validation, abs=0.05)


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_row_order_is_irrelevant_and_the_seed_is_not(seed):
    manifest, groups = example({"busi": 60, "busis": 50})
    once = make_folds(manifest, groups, FoldsConfig(), 1)
    shuffled = manifest.sample(frac=1, random_state=seed), groups.sample(frac=1, random_state=seed + 1)
    pd.testing.assert_frame_equal(make_folds(*shuffled, FoldsConfig(), 1), once)
    assert not make_folds(manifest, groups, FoldsConfig(), 2).equals(once)


def test_adding_a_source_leaves_the_folds_of_the_others_alone():
    manifest, groups = example({"busi": 80})
    more, more_groups = example({"busis": 70, "dataset_b": 30})
    alone = Folds.checked(make_folds(manifest, groups, FoldsConfig(), 7), "alone")
    both = make_folds(pd.concat([manifest, more]), pd.concat([groups, more_groups]), FoldsConfig(), 7)
    together = Folds.checked(both, "together")
    assert alone.digest(manifest["image_id"]) == together.digest(manifest["image_id"])


def spread(frame: pd.DataFrame, tests: pd.Series) -> float:
    """Mean absolute departure, in images, of the test parts' counts by source and label from a fair share."""
    table = pd.crosstab([frame["source"], frame["label"]], tests.to_numpy())
    return float((table.sub(table.sum(axis=1) / table.shape[1], axis=0)).abs().to_numpy().mean())


def test_balance_by_source_and_label_is_better_than_scikit_learns():
    ours, theirs = [], []
    for seed in range(5):
        manifest, groups = example({"busi": 65, "busis": 55, "thammasat": 26, "dataset_b": 17, "hmss": 90}, seed, 5)
        frame = make_folds(manifest, groups, FoldsConfig(), seed)
        tested = (frame[[f"fold_{k}" for k in range(1, 6)]] == "test").idxmax(axis=1)
        ours.append(spread(frame, tested))
        strata = frame["source"] + frame["label"].astype(str)
        fold = pd.Series(0, index=frame.index)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for number, (_, test) in enumerate(splitter.split(frame, strata, frame["group"])):
            fold.iloc[test] = number
        theirs.append(spread(frame, fold))
    assert np.mean(ours) < np.mean(theirs)
    assert np.mean(ours) < 1.0


def test_partition_meets_fractions_exactly_where_it_can():
    features = np.ones((30, 2))
    features[:, 1] = np.arange(30) % 2
    parts = partition(features, [0.8, 0.2], np.random.default_rng(0))
    assert np.bincount(parts).tolist() == [24, 6]
    assert features[parts == 1, 1].sum() == 3


def test_groups_that_span_sources_are_kept_whole():
    manifest, groups = example({"busi": 40, "busis": 40})
    last = groups.index[groups["image_id"].str.startswith("busis")][0]
    groups["group"] = groups["group"].replace({groups["group"][last]: groups["group"][0]})
    frame = make_folds(manifest, groups, FoldsConfig(), 0)
    assert check_leakage(Folds.checked(frame, "made"))["groups"] == groups["group"].nunique()


def test_too_few_images_of_a_label_is_an_error():
    manifest, groups = example({"busi": 30})
    manifest["label"] = 0
    with pytest.raises(DatasetError, match=r"1 of the 2 labels\. Use fewer folds"):
        make_folds(manifest, groups, FoldsConfig(), 0)


def test_an_image_without_group_is_an_error():
    manifest, groups = example({"busi": 30})
    with pytest.raises(DatasetError, match="has no leakage group"):
        make_folds(manifest, groups.iloc[1:], FoldsConfig(), 0)


@pytest.fixture
def made():
    manifest, groups = example({"busi": 60, "busis": 40})
    return manifest, groups, make_folds(manifest, groups, FoldsConfig(), 0)


def reopened(frame: pd.DataFrame, tmp_path, images=None) -> Folds:
    frame.to_csv(tmp_path / "folds.csv", index=False)
    return Folds.open(tmp_path / "folds.csv", images)


def test_open_reads_what_was_written(made, tmp_path):
    manifest, _, frame = made
    folds = reopened(frame, tmp_path, manifest["image_id"])
    assert folds.count == 5
    pd.testing.assert_frame_equal(folds.frame, frame, check_dtype=False)
    assert set(folds.parts(3).unique()) == set(PARTS)
    assert folds.parts(3).index.tolist() == frame["image_id"].tolist()
    assert folds.digest(frame["image_id"]) == folds.digest(frame["image_id"][::-1])
    with pytest.raises(DatasetError, match="between 1 and 5 but got 6"):
        folds.parts(6)
    with pytest.raises(DatasetError, match="busi/zzz has no folds"):
        folds.digest(["busi/zzz"])


def test_the_digest_sees_parts_and_groups_of_its_own_images_only(made):
    _, _, frame = made
    busi = frame.loc[frame["source"] == "busi", "image_id"]
    before = Folds.checked(frame, "x").digest(busi)
    other = frame.copy()
    other.loc[other["source"] == "busis", "group"] = "busis/other"
    assert Folds.checked(other, "x").digest(busi) == before
    for column, value in (("group", "busi/other"), ("fold_1", "validation")):
        changed = frame.copy()
        row = changed.index[(changed["source"] == "busi") & (changed["fold_1"] == "train")][0]
        changed.loc[row, column] = value
        assert Folds.checked(changed, "x").digest(busi) != before


def test_hand_edits_are_checked(made, tmp_path):
    manifest, _, frame = made
    images = manifest["image_id"]
    extra = frame.iloc[[0]].assign(image_id="busi/9999")
    with pytest.raises(DatasetError, match="busi/9999 is not in the benchmark"):
        reopened(pd.concat([frame, extra]), tmp_path, images)
    with pytest.raises(DatasetError, match=r"busi/0001 of the benchmark is missing \(1 in all\)"):
        reopened(frame[frame["image_id"] != "busi/0001"], tmp_path, images)
    with pytest.raises(DatasetError, match="busi/0001 is listed more than once"):
        reopened(pd.concat([frame, frame.iloc[[0]]]), tmp_path)
    tested = next(k for k in range(1, 6) if frame.loc[0, f"fold_{k}"] == "test")
    with pytest.raises(DatasetError, match="busi/0001 is in the test part of 0 folds"):
        reopened(frame.assign(**{f"fold_{tested}": frame[f"fold_{tested}"].where(frame.index > 0, "train")}), tmp_path)
    other = f"fold_{tested % 5 + 1}"
    with pytest.raises(DatasetError, match="busi/0001 is in the test part of 2 folds"):
        reopened(frame.assign(**{other: frame[other].where(frame.index > 0, "test")}), tmp_path)
    with pytest.raises(DatasetError, match="busi/0001 has fold_2 = 'tset', allowed: train, validation, test, unused"):
        reopened(frame.assign(fold_2=frame["fold_2"].where(frame.index > 0, "tset")), tmp_path)
    with pytest.raises(DatasetError, match="has the columns"):
        reopened(frame.drop(columns="fold_2"), tmp_path)
    with pytest.raises(DatasetError, match="dvc repro folds"):
        Folds.open(tmp_path / "absent.csv")


@pytest.mark.parametrize("column", ["group", "case_id"])
def test_the_leakage_check_stops_at_a_planted_leak_and_names_it(made, column):
    _, _, frame = made
    frame = frame.copy()
    train = frame.index[frame["fold_2"] == "train"][0]
    test = frame.index[frame["fold_2"] == "test"][0]
    frame.loc[test, column] = frame.loc[train, column]
    images = [frame.loc[train, "image_id"], frame.loc[test, "image_id"]]
    with pytest.raises(LeakageError) as raised:
        check_leakage(Folds.checked(frame, "planted"))
    message = str(raised.value)
    assert str(frame.loc[train, column]) in message
    assert all(image in message for image in images)
    assert "fold " in message


def test_the_check_says_what_it_checked(made):
    _, groups, frame = made
    checked = check_leakage(Folds.checked(frame, "made"))
    assert checked["images"] == 100
    assert checked["groups"] == groups["group"].nunique()
    assert sum(parts["test"]["images"] for parts in checked["folds"].values()) == 100
    assert "100 images" in describe(checked)
    assert describe(checked).count("fold_") == 5


@pytest.mark.parametrize("column", ["group", "label", "case_id"])
def test_columns_that_differ_from_the_benchmark_are_refused(made, column):
    manifest, groups, frame = made
    require_current(Folds.checked(frame, "made"), manifest, groups)
    edited = frame.copy()
    edited.loc[4, column] = 1 - edited.loc[4, "label"] if column == "label" else "busi/elsewhere"
    with pytest.raises(DatasetError, match=rf"{edited.loc[4, 'image_id']} has {column}"):
        require_current(Folds.checked(edited, "edited"), manifest, groups)


@pytest.mark.parametrize("fold", range(1, 6))
def test_the_digest_sees_every_fold(made, fold):
    _, _, frame = made
    column = f"fold_{fold}"
    row = frame.index[frame[column] == "train"][0]
    changed = frame.copy()
    changed.loc[row, column] = "validation"
    before, after = (Folds.checked(each, "x").digest(frame["image_id"]) for each in (frame, changed))
    assert before != after
