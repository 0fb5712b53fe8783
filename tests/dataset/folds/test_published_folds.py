"""Folds that a source's owner publishes: read as they are, torn patients reported, and used or refused by name."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from projects import SHARED
from typer.testing import CliRunner

from bus_mlops import paths
from bus_mlops.cli.folds import folds_app
from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import LEADING, Folds
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.dataset.folds.leakage import check_leakage
from bus_mlops.dataset.folds.make import write_folds
from bus_mlops.dataset.folds.official import (
    OfficialRow,
    match,
    official_folds,
    read_imported,
    read_official,
    read_published,
)
from bus_mlops.dataset.folds.official_report import defects, describe
from bus_mlops.errors import DatasetError, SourceError
from bus_mlops.sources.busbra import SOURCE
from bus_mlops.sources.phantoms.write import draw_phantoms
from bus_mlops.sources.registry import SOURCES


def frames(folder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest's columns that matter, and groups that are the patients."""
    rows = [(r.image_id, "busbra", r.name, r.label, r.case_id) for r in SOURCE.read(folder)]
    manifest = pd.DataFrame(rows, columns=["image_id", "source", "name", "label", "case_id"])
    return manifest, pd.DataFrame({"image_id": manifest["image_id"], "group": manifest["case_id"]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Phantoms of BUS-BRA: 60 images of patients with one or two, and the owner's folds."""
    assert SOURCE.phantoms
    plan, rng = SOURCE.phantoms(), np.random.default_rng(0)
    made = tmp_path_factory.mktemp("busbra")
    plan.write(made, draw_phantoms(rng, plan, 60, 0, size=48), rng)
    return made


def imported(folder):
    name, rows = read_published(folder / "5-fold-cv.csv", SOURCES.values())
    assert name == "busbra"
    return rows


def test_every_image_is_in_every_fold_and_tested_once(folder):
    rows = imported(folder)
    assert {row.fold for row in rows} == {1, 2, 3, 4, 5}
    parts = pd.DataFrame(rows, columns=OfficialRow._fields).pivot_table("part", "name", "fold", aggfunc="first")
    assert parts.shape == (60, 5)
    assert ((parts == "test").sum(axis=1) == 1).all()
    table = pd.read_csv(folder / "5-fold-cv.csv").set_index("ID").loc[parts.index]
    for fold in range(1, 6):
        assert ((table["kFold"] == fold) == (parts[fold] == "test")).all()
        assert (parts[fold] == "validation").sum() < (parts[fold] == "train").sum()


def test_patients_torn_between_training_and_validation_are_reported_and_counted(folder):
    manifest, groups = frames(folder)
    rows = imported(folder)
    found = defects(match(rows, manifest), manifest, groups, ["busbra"], "published")
    assert all(len(found["cases_in_several_parts"][f"fold_{fold}"]) >= 3 for fold in range(1, 6))
    assert all(found["validation_leaks"].values())
    assert not any(found["leaks"].values())
    text = describe(found)
    assert text.startswith("published folds: 300 rows name 60 images")
    assert "fold 1: groups of near-duplicates or cases in train and validation" in text
    assert "the paper says" not in text
    folds = Folds.checked(official_folds(rows, manifest, groups, kind="published"), "them", kind="published")
    checked = check_leakage(folds, tolerate=True)
    assert (checked["leaks"], checked["exposed_test_images"]) == (0, 0)
    assert checked["validation_leaking_cases"] > 0


def test_training_and_validation_divided_anew_tear_nobody_and_leave_the_test_parts(folder):
    manifest, groups = frames(folder)
    frame = official_folds(imported(folder), manifest, groups, kind="published")
    for fold in range(1, 6):
        parts = parts_of(frame, fold, ["busbra"], 0.2)
        cases = manifest.set_index("image_id")["case_id"].loc[parts.index]
        assert parts.groupby(cases).nunique().max() == 1
        assert set(parts.index[parts == "test"]) == set(frame.loc[frame[f"fold_{fold}"] == "test", "image_id"])


@pytest.mark.skipif(not (SHARED / "data" / "busbra").is_dir(), reason="the images of BUS-BRA are not here")
@pytest.mark.parametrize(
    ("table", "torn"),
    [
        ("5-fold-cv.csv", [112, 99, 104, 120, 117]),
        ("10-fold-cv.csv", [130, 128, 125, 125, 122, 126, 109, 103, 118, 126]),
    ],
)
def test_the_real_folds_tear_about_a_hundred_patients_each(table, torn):
    real = SHARED / "data" / "busbra"
    manifest, groups = frames(real)
    _, rows = read_published(real / table, SOURCES.values())
    found = defects(match(rows, manifest), manifest, groups, ["busbra"], "published")
    assert [len(cases) for cases in found["cases_in_several_parts"].values()] == torn
    assert [len(cases) for cases in found["validation_leaks"].values()] == torn
    assert not any(found["leaks"].values())
    assert (found["never_tested"], found["names_matching_none"], found["labels_against_source"]) == ([], [], [])
    shares = [share["images"] for share in found["validation_share"].values()]
    assert all(0.17 < share < 0.22 for share in shares)
    official_folds(rows, manifest, groups, kind="published")


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        (
            r"^(bus_[^,]+,[^,]+),1,NaN",
            r"\1,2,NaN",
            r"row \d+: kFold is '2', but valid_1 is empty or NaN, where valid_2",
        ),
        (r"^(bus_[^,]+,[^,]+),1,NaN", r"\1,1,1", r"but no column is empty or NaN"),
        (r"^(bus_[^,]+,[^,]+),1,NaN,[01]", r"\1,1,NaN,7", r"valid_2 = '7' is neither 0, 1 nor NaN"),
        (r"^(bus_[^,]+),[^,]+,1", r"\1,unclear,1", r"label 'unclear'"),
        ("valid_5", "valid5", r"column 'valid_5' is missing"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_by_row(folder, tmp_path, good, bad, complaint):
    text = (folder / "5-fold-cv.csv").read_text()
    changed = re.sub(good, bad, text, count=1, flags=re.MULTILINE)
    assert changed != text
    (tmp_path / "5-fold-cv.csv").write_text(changed)
    with pytest.raises(SourceError, match=complaint):
        imported(tmp_path)


def test_an_image_listed_twice_and_a_column_without_a_smaller_class_are_refused(folder, tmp_path):
    lines = (folder / "5-fold-cv.csv").read_text().splitlines()
    path = tmp_path / "5-fold-cv.csv"
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(SourceError, match=r"row 62: 'bus_.*' is listed already by .*row 2"):
        imported(tmp_path)
    path.write_text("\n".join([lines[0], "bus_1-l,benign,1,NaN,1,1,1,1", "bus_2-l,benign,2,0,NaN,1,1,1"]))
    with pytest.raises(SourceError, match="valid_1 holds 1 images of 0 and 0 of 1, so that nothing says which"):
        imported(tmp_path)


def test_another_table_is_refused_and_the_known_ones_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"other\.csv is no table of folds.*busbra: 5-fold-cv\.csv, 10-fold-cv\.csv"):
        read_published(tmp_path / "other.csv", SOURCES.values())


def test_they_are_imported_under_their_kind_and_number_and_under_no_other(folder, tmp_path, monkeypatch):
    manifest, groups = frames(folder)
    monkeypatch.chdir(tmp_path)
    other = manifest.iloc[:1].assign(image_id="busi/benign (1)", source="busi", name="benign (1)")
    monkeypatch.setattr(Benchmark, "open", lambda _: SimpleNamespace(frame=pd.concat([manifest, other])))
    paths.AUDIT.mkdir(parents=True)
    groups.to_csv(paths.AUDIT / "groups.csv", index=False)
    done = CliRunner().invoke(folds_app, ["import", str(folder / "5-fold-cv.csv")])
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "set folds.kind to published and folds.count to 5 in params.yaml" in words
    assert "training.validation" in words
    assert "busi/" not in words  # which these folds are not about
    rows = read_imported(paths.OFFICIAL_FOLDS, "published", 5)
    assert rows == imported(folder)
    for kind, count, complaint in (
        ("official", 5, "holds published folds, folds.kind asks for official. Download folds.zip"),
        ("published", 10, "holds 5 folds, folds.count is 10"),
    ):
        with pytest.raises(DatasetError, match=complaint):
            read_imported(paths.OFFICIAL_FOLDS, kind, count)
    with pytest.raises(
        DatasetError, match=r"the published folds are not imported\. Run `bus-mlops folds import` with the"
    ):
        read_imported(tmp_path / "elsewhere", "published", 5)
    frame = official_folds(rows, manifest, groups, kind="published")
    write_folds(frame, "published", tmp_path / "folds")
    assert Folds.open(tmp_path / "folds" / "folds.csv", manifest["image_id"]).kind == "published"
    assert list(frame.columns[: len(LEADING)]) == LEADING


def test_the_configuration_takes_as_many_as_a_table_may_have_and_locks_nothing():
    assert FoldsConfig(kind="published", count=10).count == 10
    with pytest.raises(ValueError, match=r"folds\.locked must be 0 for the published folds"):
        FoldsConfig(kind="published", locked=0.1)


def test_official_folds_are_still_read_from_a_zip(tmp_path):
    with pytest.raises(DatasetError, match=r"folds\.zip not found"):
        read_official(tmp_path / "folds.zip")
