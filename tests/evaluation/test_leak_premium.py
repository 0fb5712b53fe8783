"""The leak premium: nothing where nothing leaks, found where a network remembers; its table and its section."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from projects import ROOT
from sklearn.metrics import roc_auc_score

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.leak_premium import COLLECTED, PREMIUM_COLUMNS, in_words, premium, premium_table
from bus_mlops.evaluation.report.leak_premium_section import leak_premium_section
from bus_mlops.evaluation.results import PlannedRow, seal
from bus_mlops.evaluation.tidy import Evaluated

sys.path.insert(0, str(ROOT / "benchmarks"))
from leak_premium import measured, world

ROW = PlannedRow("approaches", "Net", "<S>", ("busi",), (1, 2, 3), None, "classification", "net", seeds=(0,))


def test_the_interval_covers_nothing_where_nothing_leaks():
    """96 of 100 are expected; fewer than 89 would be so by chance in one of a thousand."""
    found = measured(100, ("roc_auc",), resamples=100)
    assert ((found["low"] <= 0) & (found["high"] >= 0)).sum() >= 89


def test_a_network_that_remembers_relatives_is_found():
    found = measured(10, ("roc_auc",), resamples=100, folds=5, images=600, pairs=250, memory=4.0)
    assert (found["low"] > 0).all()
    assert (found["p"] < 0.05).all()


def test_equal_predictions_differ_by_nothing_in_whatever_order():
    grouped, _ = world(np.random.default_rng(1))
    ((_, same),) = premium(("roc_auc",), grouped, grouped.sample(frac=1, random_state=0), resamples=50)
    assert same.difference == pytest.approx(0, abs=1e-12)
    assert same.low < 0 < same.high


def evaluated(folder: Path) -> Evaluated:
    """One row in both kinds of folds, as the stages leave it."""
    folder.mkdir()
    sides = world(np.random.default_rng(0), pairs=60, memory=3.0)
    contract = {"strategy": "approaches", "model": "Net", "variant": "<S>", "network": "net", "fingerprint": "f"}
    grouped, image_level = (
        side.assign(part="test", case_id=side["image_id"], source="busi", iou=np.nan, **contract) for side in sides
    )
    image_level.to_parquet(folder / f"{COLLECTED}.parquet")
    seal(folder, COLLECTED, {})
    folds = image_level[["image_id", "source", "label", "case_id", "group"]]
    parts = {f"fold_{k}": np.where(image_level["fold"] == k, "test", "train") for k in (1, 2, 3)}
    folds.assign(**parts).to_csv(folder / "folds.csv", index=False)
    empty = pd.DataFrame()
    return Evaluated({"approaches": [ROW]}, {"approaches": grouped}, {}, empty, empty, folder, folder, folder)


def test_the_table_has_both_means_their_difference_and_what_leaks(tmp_path):
    given = evaluated(tmp_path / "premium")
    table = premium_table(given)
    assert list(table.columns) == list(PREMIUM_COLUMNS)
    assert list(table["metric"]) == ["roc_auc", "balanced_accuracy", "sensitivity", "specificity"]
    line = table.iloc[0]
    image_level = pd.read_parquet(tmp_path / "premium" / f"{COLLECTED}.parquet")
    for side, frame in (("grouped", given.predictions["approaches"]), ("image_level", image_level)):
        areas = [roc_auc_score(own["label"], own["probability"]) for _, own in frame.groupby("fold")]
        assert line[side] == pytest.approx(np.mean(areas))
        assert line[f"{side}_low"] < line[side] < line[f"{side}_high"]
    assert line["difference"] == pytest.approx(line["image_level"] - line["grouped"])
    assert line["low"] < line["difference"] < line["high"]
    torn = image_level.groupby("group")["fold"].nunique().gt(1).sum()
    # In pairs: of each that is torn both images are tested where the other is trained on.
    assert (line["torn_groups"], line["exposed_images"], line["images"]) == (torn, 2 * torn, 240)

    table.to_csv(tmp_path / "leak_premium.csv", index=False)
    section = leak_premium_section(tmp_path)
    assert section is not None
    assert "Image-level folds make ROC AUC of Net &lt;S&gt; look better by +." in section.html
    assert f"{torn} of 180 leakage groups are torn" in section.html
    assert "<S>" not in section.html


def test_what_is_not_planned_or_not_whole_is_named(tmp_path):
    given = evaluated(tmp_path / "premium")
    with pytest.raises(EvaluationError, match="which is not planned now: run `dvc repro premium`"):
        premium_table(replace(given, plans={}))
    path = given.premium / f"{COLLECTED}.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    with pytest.raises(EvaluationError, match="was changed or cut"):
        premium_table(given)
    seal(given.premium, COLLECTED, {})
    with pytest.raises(EvaluationError, match=r"image-level fold 1, seed 0: 79 predicted, 80 expected"):
        premium_table(given)


def test_where_it_is_off_there_are_columns_and_no_section(tmp_path):
    empty = pd.DataFrame()
    table = premium_table(Evaluated({}, {}, {}, empty, empty, tmp_path, tmp_path, tmp_path / "premium"))
    assert list(table.columns) == list(PREMIUM_COLUMNS)
    assert table.empty
    table.to_csv(tmp_path / "leak_premium.csv", index=False)
    assert leak_premium_section(tmp_path) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ((0.0123, 0.002, 0.0226, 0.02), "look better by +.012 (+.002 to +.023)"),
        ((0.0123, -0.01, 0.03, 0.3), "look better by +.012 (−.010 to +.030); chance alone could do that"),
        ((-0.02, -0.05, 0.01, 0.2), "look worse by +.020 (−.010 to +.050); chance alone could do that"),
        ((0.01, float("nan"), float("nan"), float("nan")), "look better by +.010"),
    ],
)
def test_a_line_in_words(line, words):
    values = dict(zip(("difference", "low", "high", "p"), line, strict=True))
    assert in_words("Net S", "ROC AUC", values) == f"Image-level folds make ROC AUC of Net S {words}"
