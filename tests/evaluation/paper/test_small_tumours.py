"""The findings on small tumours: against numbers made to have them, or not, and what cannot be tested."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from assembled import facts_of, write_benchmark

from bus_mlops.evaluation.comparison import corrected_resampled_test
from bus_mlops.evaluation.lesions import cut_points
from bus_mlops.evaluation.paper.findings import Finding
from bus_mlops.evaluation.paper.small_tumours import small_tumours
from bus_mlops.evaluation.results import PlannedRow, resampling_ratio
from bus_mlops.evaluation.tidy import Evaluated

FOLDS = (1, 2, 3, 4, 5)
OWN = PlannedRow("approaches", "MT-ESTAN", "Multi", ("busi",), FOLDS, None, "multitask", "mt_estan")
OTHER = PlannedRow("approaches", "ResNet50", "Multi", ("busi",), FOLDS, None, "multitask", "resnet50")
SINGLE = PlannedRow("approaches", "MobileNet", "Single", ("busi",), FOLDS, None, "classification", "mobilenet")
NAMES = ["small_sensitivity", "mt_estan_small_sensitivity", "small_dice", "mt_estan_small_dice"]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    ids = [f"busi/{i:04d}" for i in range(400)]
    return write_benchmark(tmp_path_factory.mktemp("assembled"), ids, [i + 1 for i in range(400)])


@pytest.fixture(scope="module")
def frame(predictions) -> pd.DataFrame:
    """Three rows; ResNet50 misses six of seven small tumours and draws them badly, MT-ESTAN does not."""
    rows = [
        predictions(images=400, model=row.model, variant=row.variant, task=row.task, separation=2, seed=seed)
        for seed, row in enumerate((OWN, OTHER, SINGLE))
    ]
    made = pd.concat(rows, ignore_index=True)
    number = made["image_id"].str[-4:].astype(int)
    missed = (made["model"] == "ResNet50") & (number < 134) & (number % 7 > 0)
    made.loc[missed, ["probability", "dice"]] = [0.1, 0.2]
    return made


def folds_of(frame: pd.DataFrame) -> pd.DataFrame:
    test = frame[frame["part"] == "test"].drop_duplicates("image_id")
    parts = {f"fold_{k}": np.where(test["fold"] == k, "test", "train") for k in FOLDS}
    return pd.DataFrame({"image_id": test["image_id"], "source": "busi", "group": test["group"], **parts})


def found(frame: pd.DataFrame, rows: list[PlannedRow], benchmark: Path, folds: int = 5) -> dict[str, Finding]:
    kept = [dataclasses.replace(row, folds=FOLDS[:folds]) for row in rows]
    frames = {"approaches": frame[frame["fold"] <= folds]}
    evaluated = Evaluated({"approaches": kept}, frames, {}, pd.DataFrame(), folds_of(frame), benchmark, Path("nowhere"))
    return {each.name: each for each in small_tumours(evaluated)}


def test_what_is_lost_on_small_tumours_is_tested_fold_by_fold(frame, benchmark):
    findings = found(frame, [OWN, OTHER, SINGLE], benchmark)
    assert list(findings) == NAMES
    lost = findings["small_sensitivity"]
    (tested,) = (test for test in lost.tests if test.name == "ResNet50 Multi")
    part = frame[(frame["model"] == "ResNet50") & (frame["part"] == "test") & (frame["label"] == 1)]
    share = part["image_id"].map(facts_of(benchmark)["share"])
    low, high = cut_points(facts_of(benchmark)["share"])
    called = part["probability"] >= 0.5
    small, large = (called[keep].groupby(part["fold"]).mean() for keep in (share <= low, share > high))
    expected = corrected_resampled_test(small, large, resampling_ratio(folds_of(frame), OTHER))
    assert (tested.difference, tested.low, tested.high) == pytest.approx(
        (expected.difference, max(expected.low, -1), expected.high)
    )
    assert tested.p < tested.p_adjusted
    assert lost.overall is not None
    assert lost.overall.difference == pytest.approx(np.mean([test.difference for test in lost.tests]))
    assert findings["small_dice"].tests[0].name == "MT-ESTAN Multi"
    assert [len(findings[name].tests) for name in NAMES] == [3, 2, 2, 1]  # MobileNet draws no mask


def test_verdicts_follow_the_tests(frame, benchmark):
    both = found(frame, [OWN, OTHER], benchmark)
    gained = both["mt_estan_small_sensitivity"]
    assert gained.verdict == "shown"
    assert gained.statement.startswith(
        "Sensitivity of MT-ESTAN on the smallest third of lesions is higher than that of all"
    )
    assert both["mt_estan_small_dice"].verdict == "shown"
    single = found(frame, [OWN, SINGLE], benchmark)
    assert single["mt_estan_small_sensitivity"].verdict == "not shown"
    assert single["small_sensitivity"].verdict == "not shown"
    assert single["small_sensitivity"].statement.startswith("It does not show that sensitivity is lower")
    alone = found(frame, [OTHER], benchmark)
    assert alone["small_sensitivity"].verdict == "shown"
    assert alone["mt_estan_small_sensitivity"].statement == "Not tested: this run has no rows to compare with MT-ESTAN."
    turned = frame.assign(model=frame["model"].map({"MT-ESTAN": "ResNet50", "ResNet50": "MT-ESTAN"}))
    worse = found(turned, [OWN, OTHER], benchmark)["mt_estan_small_sensitivity"]
    assert worse.verdict == "opposite"
    assert worse.statement.startswith("The opposite of “sensitivity of MT-ESTAN")


def test_what_cannot_be_tested(frame, benchmark, tmp_path):
    one = found(frame, [OWN, OTHER], benchmark, folds=1)
    assert {each.verdict for each in one.values()} == {"not tested"}
    assert one["small_dice"].statement.startswith("Not tested: one fold allows no test: lower for 1 of 2 networks")
    assert found(frame, [OWN, OTHER], tmp_path) == {}  # no benchmark, hence no sizes
    assert found(frame, [], benchmark) == {}
    benign = found(frame.assign(label=0), [OWN, OTHER], benchmark)
    assert benign["small_sensitivity"].verdict == "not tested"
    assert benign["small_dice"].verdict != "not tested"
