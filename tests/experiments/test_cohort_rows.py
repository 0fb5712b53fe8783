"""Which images a cell trains on, validates on and tests: those of its cohort and fold, and no unused ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_cells import make_spec

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import UNUSED, Folds
from bus_mlops.errors import DatasetError
from bus_mlops.experiments.cell import REFIT, Cell
from bus_mlops.experiments.cohort_rows import cohort_rows


@pytest.fixture
def opened(tiny_data) -> tuple[Benchmark, Folds]:
    return Benchmark.open(tiny_data / "data/benchmark"), Folds.open(tiny_data / "data/folds/folds.csv")


def cell(fold: int, *cohort: str, **training: Any) -> Cell:
    spec = make_spec(**training).model_copy(update={"cohort": cohort})
    return Cell(spec, fold, "fingerprint", "parent", "title", "data", "folds")


def test_images_that_a_fold_leaves_unused_are_in_no_part(opened):
    benchmark, folds = opened
    frame = folds.frame.copy()
    column = "fold_2"
    out = [frame.index[(frame["source"] == "busi") & (frame[column] == part)][0] for part in ("train", "test")]
    frame.loc[out, column] = UNUSED
    official = Folds.checked(frame, "official", benchmark.frame["image_id"], kind="official")
    before, after = (cohort_rows(benchmark, each, cell(2, "busi", "busis")) for each in (folds, official))
    lost = {part: set(before[part]) - set(after[part]) for part in before}
    rows = benchmark.frame.set_index("image_id")["index"]
    ids = frame["image_id"]
    assert lost == {"train": {rows[ids[out[0]]]}, "validation": set(), "test": {rows[ids[out[1]]]}}
    assert all(set(after[part]) <= set(before[part]) for part in before)
    everything = np.concatenate(list(after.values()))
    assert len(everything) == len(set(everything)) == sum(len(v) for v in before.values()) - 2


def test_a_fraction_of_its_own_divides_what_the_fold_trains_and_validates_on(opened):
    benchmark, folds = opened
    before, after = (cohort_rows(benchmark, folds, cell(1, "busi", validation=own)) for own in (None, 0.5))
    np.testing.assert_array_equal(after["test"], before["test"])
    learnt = np.concatenate([before["train"], before["validation"]])
    assert sorted(np.concatenate([after["train"], after["validation"]])) == sorted(learnt)
    assert len(before["validation"]) < len(after["validation"]) == pytest.approx(len(learnt) / 2, abs=2)
    assert len(cohort_rows(benchmark, folds, cell(REFIT, "busi", validation=0.5))["train"]) > len(learnt)


def test_a_refit_trains_on_every_image_that_some_fold_uses(opened):
    benchmark, folds = opened
    frame = folds.frame.copy()
    of_busi = frame.index[frame["source"] == "busi"]
    frame.loc[of_busi[0], ["fold_1", "fold_2"]] = UNUSED
    some = frame.index[(frame["source"] == "busi") & (frame["fold_2"] == "train")][0]
    frame.loc[some, "fold_2"] = UNUSED
    absent = frame["image_id"][of_busi[1]]
    frame = frame.drop(of_busi[1])  # left out by audit.exclude
    parts = cohort_rows(benchmark, replace(folds, frame=frame), cell(REFIT, "busi"))
    excluded = {frame["image_id"][of_busi[0]], absent}
    expected = [i for i in benchmark.frame["image_id"] if i.startswith("busi/") and i not in excluded]
    assert benchmark.frame["image_id"].iloc[parts["train"]].tolist() == expected
    assert len(parts["validation"]) == len(parts["test"]) == 0


def test_a_fold_that_tests_another_source_is_an_error_that_says_so(opened):
    benchmark, folds = opened
    frame = folds.frame.copy()
    busi = frame["source"] == "busi"
    frame.loc[busi, ["fold_1", "fold_2"]] = ["train", "test"]
    by_source = replace(folds, frame=frame, kind="source")
    with pytest.raises(DatasetError, match=r"fold 1 has no validation image of busi\. Choose other folds"):
        cohort_rows(benchmark, by_source, cell(1, "busi"))
    frame.loc[busi & (frame.index % 2 == 0), "fold_1"] = "validation"
    with pytest.raises(DatasetError, match="fold 1 has no test image of busi"):
        cohort_rows(benchmark, by_source, cell(1, "busi"))
