"""Subgroups: whose images are in them, their numbers against scikit-learn, and what is too small or not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from assembled import facts_of, write_benchmark
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from bus_mlops.evaluation.lesions import NO_MASK, THIRDS, cut_points, third_of
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.evaluation.subgroups import COLUMNS, divided, of_cases, subgroups
from bus_mlops.evaluation.tidy import Evaluated

FOLDS = (1, 2, 3, 4, 5)
MULTI = PlannedRow("approaches", "MT-ESTAN", "Multi", ("busi",), FOLDS, None, "multitask", "mt_estan")
MASKS = PlannedRow("approaches", "ESTAN", "Mask only", ("busi",), FOLDS, None, "segmentation", "estan")
GRID = PlannedRow("approaches", "MobileNet", "BCE", ("busi",), FOLDS, None, family="BCE")


def evaluated(frame: pd.DataFrame, *rows: PlannedRow, benchmark: Path = Path("nowhere")) -> Evaluated:
    empty = pd.DataFrame()
    return Evaluated({"approaches": list(rows)}, {"approaches": frame}, {}, empty, empty, benchmark, Path("nowhere"))


@pytest.fixture(scope="module")
def frame(predictions) -> pd.DataFrame:
    made = predictions(model="MT-ESTAN", variant="Multi", task="multitask")
    # Every fourth image is the second of the case before it; of two sources one is small.
    number = made["image_id"].str[-4:].astype(int)
    case = number.where(number % 4 != 1, number - 1)
    return made.assign(case_id="busi/" + case.astype(str), source=np.where(number < 20, "small", "busi"))


@pytest.fixture(scope="module")
def benchmark(frame, tmp_path_factory) -> Path:
    ids = sorted(frame["image_id"].unique())
    areas = [0 if i % 10 == 0 else i + 1 for i in range(len(ids))]
    return write_benchmark(tmp_path_factory.mktemp("assembled"), ids, areas)


@pytest.fixture(scope="module")
def table(frame, benchmark) -> pd.DataFrame:
    return subgroups(evaluated(frame, MULTI, benchmark=benchmark))


def line(table: pd.DataFrame, grouping: str, name: str, metric: str) -> pd.Series[Any]:
    wanted = (table["grouping"] == grouping) & (table["subgroup"] == name) & (table["metric"] == metric)
    assert wanted.sum() == 1
    return table[wanted].iloc[0]


def test_numbers_are_those_of_the_subgroups_own_test_images(table, frame, benchmark):
    assert tuple(table.columns) == COLUMNS
    test = frame[frame["part"] == "test"]
    share = test["image_id"].map(facts_of(benchmark)["share"])
    low, high = cut_points(share)
    for (grouping, name), part in {
        ("all images", "all images"): test,
        ("source", "busi"): test[test["source"] == "busi"],
        ("lesion size", THIRDS[0]): test[share <= low],
        ("lesion size", THIRDS[2]): test[share > high],
        ("lesion size", NO_MASK): test[share.isna()],
    }.items():
        found = line(table, grouping, name, "roc_auc")
        assert found["images"] == len(part)
        assert found["malignant"] == part["label"].sum()
        assert found["groups"] == part["group"].nunique()
        assert found["estimate"] == pytest.approx(reference.roc_auc_score(part["label"], part["probability"]))
        assert found["low"] < found["estimate"] < found["high"]
        recall = reference.recall_score(part["label"], part["probability"] >= 0.5)
        assert line(table, grouping, name, "sensitivity")["estimate"] == pytest.approx(recall)
        assert line(table, grouping, name, "dice")["estimate"] == pytest.approx(part["dice"].mean())
    ends = table.loc[table["grouping"] == "lesion size", ["subgroup", "from_share", "to_share"]].drop_duplicates()
    assert ends[["from_share", "to_share"]].to_numpy()[:3].tolist() == [[0, low], [low, high], [high, 1]]


def test_a_case_is_called_by_its_maximum_or_its_mean(table, frame):
    test = frame[frame["part"] == "test"]
    for how in ("maximum", "mean"):
        cases = of_cases(test, how)
        assert len(cases) == test["case_id"].nunique() < len(test)
        by_case = test.groupby("case_id")
        expected = by_case["probability"].agg({"maximum": "max", "mean": "mean"}[how])
        assert cases.set_index("case_id")["probability"].to_dict() == pytest.approx(expected.to_dict())
        area = reference.roc_auc_score(by_case["label"].max(), expected)
        assert line(table, "case", how, "roc_auc")["estimate"] == pytest.approx(area)
    assert "dice" not in set(table.loc[table["subgroup"] == "maximum", "metric"])  # a maximum has no mask


def test_what_is_too_small_says_so_instead_of_giving_numbers(table, frame):
    groups = frame.loc[(frame["source"] == "small") & (frame["label"] == 1), "group"].nunique()
    found = line(table, "source", "small", "sensitivity")
    assert found[["estimate", "low", "high"]].isna().all()
    assert found["method"] == f"too small: {groups} leakage groups with malignant images, 10 are needed"
    one = subgroups(evaluated(frame[frame["case_id"] == frame["case_id"].iloc[0]], MULTI))
    assert one["estimate"].isna().all()
    assert one["method"].str.startswith("too small").all()
    benign = subgroups(evaluated(frame[frame["label"] == 0], MULTI))
    known = benign.dropna(subset="estimate")
    assert set(known["metric"]) == {"specificity", "dice"}


def test_headline_rows_only_and_of_each_what_it_predicts(frame, predictions):
    masks = predictions(model="ESTAN", variant="Mask only", task="segmentation")
    grid = predictions(model="MobileNet", variant="BCE")
    table = subgroups(evaluated(pd.concat([frame, masks, grid]), MULTI, MASKS, GRID))
    assert set(table["model"]) == {"MT-ESTAN", "ESTAN"}
    assert set(table.loc[table["model"] == "ESTAN", "metric"]) == {"dice"}
    assert set(table["grouping"]) == {"all images", "source", "case"}  # nothing is known of sizes without a benchmark
    assert subgroups(evaluated(frame)).columns.tolist() == list(COLUMNS)


def test_a_second_seed_is_no_second_image(frame, benchmark):
    twice = subgroups(evaluated(pd.concat([frame, frame.assign(seed=2022)]), MULTI, benchmark=benchmark))
    once = subgroups(evaluated(frame, MULTI, benchmark=benchmark))
    same = ["images", "cases", "groups", "malignant", "from_share", "to_share", "estimate"]
    pd.testing.assert_frame_equal(twice[same], once[same])


def test_a_scanner_that_a_source_names_is_a_subgroup(frame, benchmark):
    facts = facts_of(benchmark)
    assert (facts["scanner"] == "").all()  # no source of today names one
    test = frame[frame["part"] == "test"]
    assert "scanner" not in {each.grouping for each in divided(test, facts)}
    named = facts.assign(scanner=np.where(np.arange(len(facts)) < 50, "Aixplorer", ""))
    (only,) = (each for each in divided(test, named) if each.grouping == "scanner")
    assert (only.name, only.frame["image_id"].nunique()) == ("Aixplorer", 50)


def test_the_share_is_that_of_the_image_without_its_padding(tmp_path):
    folder = write_benchmark(
        tmp_path, ["busi/a", "busi/b", "busi/c"], [16, 32, 0], sizes=[(100, 100), (100, 50), (9, 9)]
    )
    shares = facts_of(folder)["share"]
    assert shares[["busi/a", "busi/b"]].tolist() == pytest.approx([16 / 1024, 2 * 32 / 1024])
    assert np.isnan(shares["busi/c"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6) | st.none(), max_size=40))
def test_thirds_part_all_lesions_and_keep_equal_ones_together(drawn):
    shares = np.array([np.nan if each is None else each / 8 for each in drawn])
    cuts = cut_points(shares)
    thirds = third_of(shares, cuts)
    assert (thirds[np.isnan(shares)] == NO_MASK).all()
    known = shares[~np.isnan(shares)]
    order = [THIRDS.index(name) for name in thirds[~np.isnan(shares)][np.argsort(known, kind="stable")]]
    assert order == sorted(order)
    for share in set(known):
        assert len(set(thirds[shares == share])) == 1
    if len(set(known)) == len(known) > 0:  # without ties the counts differ by at most one
        counts = [order.count(k) for k in range(3)]
        assert max(counts) - min(counts) <= 1
