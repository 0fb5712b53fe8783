"""What no fold touches: a locked part of the cases and external sources, which nothing that trains or chooses gets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fold_examples import example
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cells import make_spec
from typer.testing import CliRunner

from bus_mlops import paths
from bus_mlops.cli.app import app
from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.exclusions import list_exclusions
from bus_mlops.dataset.folds.assignment import SEALED, Folds, fold_columns
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.dataset.folds.leakage import check_leakage, describe, leak_counts
from bus_mlops.dataset.folds.make import describe_balance, make_folds, write_folds
from bus_mlops.dataset.folds.official import OfficialRow, official_folds
from bus_mlops.dataset.folds.sealed import sealed_cohorts, sealed_counts, sealed_words
from bus_mlops.errors import ConfigError, DatasetError, LeakageError
from bus_mlops.evaluation.report.rows import leakage_text
from bus_mlops.experiments.cell import REFIT, Cell
from bus_mlops.experiments.cohort_rows import cohort_rows
from bus_mlops.project import parse_config
from bus_mlops.spec import Inner

COUNTS = {"busi": 90, "busis": 70, "hmss": 60}


def made(external: tuple[str, ...] = (), seed: int = 0, **settings_: Any) -> pd.DataFrame:
    manifest, groups = example(COUNTS, seed)
    return make_folds(manifest, groups, FoldsConfig(**settings_), seed, external)


@given(
    st.integers(0, 10**6),
    st.floats(0.1, 0.4),
    st.sampled_from(["grouped", "image-level", "source"]),
    st.booleans(),
    st.sampled_from([None, 0.3]),
)
@settings(max_examples=10, deadline=None)
def test_nothing_that_trains_chooses_or_stops_gets_what_no_fold_touches(seed, locked, kind, outside, validation):
    external = ("hmss",) if outside else ()
    frame = made(external, seed, kind=kind, locked=locked, count=3)
    folds = Folds.checked(frame, "made", kind=kind)
    sealed = set(frame.loc[frame["fold_1"].isin(SEALED), "image_id"])
    related = set(frame.loc[frame["group"].isin(frame.loc[frame["fold_1"] == "locked", "group"]), "image_id"])
    assert sealed
    assert related <= sealed
    benchmark: Any = SimpleNamespace(frame=frame.drop(columns=fold_columns(frame)))
    # A cohort that names even the external source, which no configuration may, gets none of its images.
    spec = make_spec("small", validation=validation).model_copy(update={"cohort": tuple(COUNTS)})
    inner = spec.model_copy(update={"inner": Inner(fold=1, count=2)})
    cells = [(spec, fold, tried) for fold in range(1, folds.count + 1) for tried in (False, True)]
    for each, fold, tried in [*cells, (spec, REFIT, False), (inner, 1, True)]:
        cell = Cell(each, fold, "", "", "", "", "", tried=tried)
        rows = cohort_rows(benchmark, folds, cell)
        got = {image for part in rows.values() for image in frame["image_id"].iloc[part]}
        assert got
        assert not got & sealed
        if fold != REFIT:  # what the digests of choices, forecasts and tables go by
            parts = parts_of(frame, fold, COUNTS, validation, each.inner)
            assert not set(parts.index[parts.isin(["train", "validation", "test"])]) & sealed


@given(st.integers(0, 10**6), st.floats(0.1, 0.4))
@settings(max_examples=3, deadline=None)
def test_the_locked_part_is_a_balanced_fraction_and_the_same_whatever_the_folds_are(seed, locked):
    frame = made(seed=seed, locked=locked)
    is_locked = frame["fold_1"] == "locked"
    for _, rows in frame.groupby(["source", "label"]):
        assert is_locked[rows.index].mean() == pytest.approx(locked, abs=0.12)
    assert frame.loc[is_locked, "group"].nunique() / frame["group"].nunique() == pytest.approx(locked, abs=0.06)
    for other in ({"count": 3}, {"validation": 0.4}, {"kind": "image-level"}, {"kind": "source"}):
        again = made(seed=seed, locked=locked, **other)["fold_1"] == "locked"
        assert again.equals(is_locked)
    assert check_leakage(Folds.checked(frame, "made"))["leaks"] == 0


def test_nothing_is_locked_by_default_and_another_fraction_is_another_digest():
    plain, locked = made(), made(locked=0.2)
    assert not plain.isin(SEALED).to_numpy().any()
    assert "sealed" not in check_leakage(Folds.checked(plain, "plain"))
    images = plain["image_id"]
    assert Folds.checked(plain, "plain").digest(images) != Folds.checked(locked, "locked").digest(images)


def test_what_is_trained_on_does_not_depend_on_an_external_source():
    manifest, groups = example({name: count for name, count in COUNTS.items() if name != "hmss"})
    more, more_groups = example({"hmss": 60})
    more_groups.loc[:4, "group"] = groups["group"].iloc[7]  # five near-duplicates
    for config in (FoldsConfig(), FoldsConfig(locked=0.2), FoldsConfig(kind="source")):
        alone = Folds.checked(make_folds(manifest, groups, config, 7), "alone")
        both = make_folds(pd.concat([manifest, more]), pd.concat([groups, more_groups]), config, 7, ("hmss",))
        together = Folds.checked(both, "together", kind=config.kind)
        assert together.count == alone.count
        assert alone.digest(manifest["image_id"]) == together.digest(manifest["image_id"])
        external = next(each for each in sealed_cohorts(both) if each.name == "hmss")
        assert external.related == 5
        assert len(external.frame) == 55
        assert check_leakage(together)["leaks"] == 0
        assert leak_counts(both, COUNTS) == {"leaks": 0, "validation_leaks": 0}


def test_an_exclusion_of_what_is_trained_on_does_not_depend_on_an_external_source():
    names = ("image_id", "source", "label", "width", "height")
    rows = [("busi/1", "busi", 0, 10, 10), ("busi/2", "busi", 0, 9, 9), ("hmss/1", "hmss", 1, 20, 20)]
    manifest = pd.DataFrame(rows, columns=names)
    one = pd.DataFrame({"image_id": manifest["image_id"], "cluster": "busi/1"})
    groups = one.rename(columns={"cluster": "group"})
    found = list_exclusions(manifest, one, groups, ("hmss",))
    assert found[["image_id", "reason"]].to_numpy().tolist() == [["busi/2", "duplicate"]]
    assert set(list_exclusions(manifest, one, groups)["image_id"]) == {"busi/1", "busi/2", "hmss/1"}


def test_what_no_fold_touches_is_counted_wherever_folds_are_described(tmp_path, monkeypatch):
    frame = made(("hmss",), locked=0.2)
    counts = sealed_counts(frame)
    assert list(counts) == ["locked", "hmss"]
    assert counts["hmss"]["images"] == COUNTS["hmss"]
    assert counts["locked"]["images"] + sum((frame["fold_1"] == "test") + (frame["fold_1"] == "train")) < len(frame)
    checked = check_leakage(Folds.checked(frame, "made"))
    assert all(words in describe(checked) for words in sealed_words(counts))
    assert f"the locked part, {counts['locked']['images']} images" in leakage_text(checked)
    balance = write_folds(frame, "grouped", tmp_path / "folds")
    assert set(balance["part"]) == {"train", "validation", "test", *SEALED}
    assert "hmss" not in describe_balance(balance)
    monkeypatch.setattr(paths, "FOLDS", tmp_path / "folds")
    shown = CliRunner().invoke(app, ["folds", "show"], catch_exceptions=False).stdout
    assert all(words in shown for words in sealed_words(counts))
    again = Folds.open(tmp_path / "folds" / "folds.csv")
    pd.testing.assert_frame_equal(again.frame, frame)


def test_a_locked_case_in_a_fold_stops_also_where_other_leaks_are_tolerated():
    frame = made(locked=0.2, kind="image-level")
    locked = frame.index[frame["fold_1"] == "locked"][0]
    other = frame.index[frame["fold_1"] == "train"][0]
    frame.loc[other, "group"] = frame.loc[locked, "group"]
    with pytest.raises(LeakageError, match=r"locked part and in folds: .* is locked, .* is not"):
        check_leakage(Folds.checked(frame, "torn", kind="image-level"), tolerate=True)


def test_an_image_cannot_be_locked_in_one_fold_only():
    frame = made(locked=0.2)
    frame.loc[frame.index[frame["fold_1"] == "locked"][0], "fold_2"] = "train"
    with pytest.raises(DatasetError, match="locked or external in one fold must be so in every one"):
        Folds.checked(frame, "edited")


def test_an_external_source_that_cannot_speak_is_an_error_that_says_why():
    manifest, groups = example(COUNTS)
    with pytest.raises(DatasetError, match=r"cohorts\.external names thammasat, of which no image"):
        make_folds(manifest, groups, FoldsConfig(), 0, ("thammasat",))
    benign = manifest.assign(label=np.where(manifest["source"] == "hmss", 0, manifest["label"]))
    with pytest.raises(DatasetError, match=r"hmss, 60 images .*\(0 malignant\).*both labels"):
        make_folds(benign, groups, FoldsConfig(), 0, ("hmss",))
    copies = groups.assign(group=np.where(manifest["source"] == "hmss", groups["group"].iloc[0], groups["group"]))
    with pytest.raises(DatasetError, match=r"hmss, 0 images .*60 more are near-duplicates"):
        make_folds(manifest, copies, FoldsConfig(), 0, ("hmss",))


def test_so_many_locked_that_a_fold_lacks_a_label_says_so():
    manifest, groups = example({"busi": 14})
    with pytest.raises(DatasetError, match=r"of the 2 labels\. .*lock fewer cases \(folds.locked\)"):
        make_folds(manifest, groups, FoldsConfig(count=5, locked=0.5), 0)


def test_official_folds_leave_an_external_source_out():
    manifest, groups = example(COUNTS)
    named = manifest.assign(name=manifest["image_id"].str.replace("/", "_"))
    rows = []
    whole = make_folds(manifest, groups, FoldsConfig(), 0)
    for fold in range(1, 6):
        rows += [
            OfficialRow(fold, part, image.replace("/", "_"), label)
            for image, part, label in zip(whole["image_id"], whole[f"fold_{fold}"], whole["label"], strict=True)
        ]
    frame = official_folds(rows, named, groups, ("hmss",))
    columns = fold_columns(frame)
    assert (frame.loc[frame["source"] == "hmss", columns] == "external").to_numpy().all()
    pd.testing.assert_frame_equal(
        frame.loc[frame["source"] != "hmss", columns], whole.loc[whole["source"] != "hmss", columns]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cohorts": {"external": ["busis"]}}, "cohorts.external names busis, which cohorts.all trains on"),
        ({"cohorts": {"external": ["nowhere"]}}, "nowhere"),
        (
            {"data": {"sources": ["busi"]}, "cohorts": {"all": ["busi"], "multitask": ["busi"], "external": ["busis"]}},
            "which is not read",
        ),
        ({"folds": {"kind": "official", "count": 5, "locked": 0.2}}, "folds.locked must be 0 for the official folds"),
        ({"folds": {"locked": 0.6}}, "folds.locked"),
        (
            {
                "folds": {"kind": "source"},
                "cohorts": {
                    "all": ["busi", "hmss"],
                    "multitask": ["busi"],
                    "external": ["busis", "thammasat", "dataset_b"],
                },
            },
            "fewer than two of the sources that are read",
        ),
    ],
)
def test_what_cannot_be_kept_from_folds_is_an_error_before_anything_runs(demo_values, change, message):
    for section, values in change.items():
        demo_values[section] = {**demo_values[section], **values}
    with pytest.raises(ConfigError, match=message):
        parse_config(demo_values)


def test_folds_by_source_have_none_for_an_external_one(demo_values):
    demo_values["folds"]["kind"] = "source"
    demo_values["cohorts"] = {
        "all": ["busi", "busis", "hmss", "thammasat"],
        "multitask": ["busi", "busis"],
        "external": ["dataset_b"],
    }
    config = parse_config(demo_values)
    assert config.fold_sources == ("busi", "busis", "hmss", "thammasat")
    assert config.fold_count == 4
