"""folds.zip: read or refused, every planted defect reported and none repaired, then used with its leaks counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml
from fold_examples import Row, official_files, official_rows, write_folder, write_zip
from projects import run_stage_here
from typer.testing import CliRunner

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.audit import read_groups
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.exclusions import read_exclusions
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.leakage import check_leakage
from bus_mlops.dataset.folds.make import make_folds
from bus_mlops.dataset.folds.official import OfficialRow, match, read_imported, read_official, write_imported
from bus_mlops.dataset.folds.official_report import defects, describe
from bus_mlops.errors import DatasetError

Files = dict[str, bytes]


def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two images a case and group; HMSS and Dataset B have names of digits."""
    rows = []
    for source, pattern in (("hmss", "{}"), ("busi", "benign ({})"), ("dataset_b", "{:06d}")):
        for i in range(1, 31):
            name = pattern.format(i + 2800 if source == "hmss" else i)
            case = f"{source}/case{(i + 1) // 2}"
            rows.append((f"{source}/{name}", source, name, case, (i // 2) % 2, case))
    frame = pd.DataFrame(rows, columns=["image_id", "source", "name", "case_id", "label", "group"])
    return frame.drop(columns="group"), frame[["image_id", "group"]]


@pytest.fixture
def rows() -> list[Row]:
    return official_rows(make_folds(*frames(), FoldsConfig(), 0))


@pytest.fixture
def files(rows) -> Files:
    return official_files(rows)


# -- reading ---------------------------------------------------------------------------------------


def test_a_zip_its_folder_and_one_folder_deeper_read_alike(files, rows, tmp_path):
    expected = read_official(write_zip(tmp_path / "folds.zip", files))
    assert [tuple(row) for row in expected] == sorted(
        rows, key=lambda r: (r[0], ["train", "validation", "test"].index(r[1]))
    )
    assert read_official(write_zip(tmp_path / "deep.zip", files, prefix="folds/")) == expected
    assert read_official(write_folder(tmp_path / "folder", files)) == expected
    assert read_official(write_folder(tmp_path / "outer" / "folds", files).parent) == expected
    with_mark = {name: b"\xef\xbb\xbf" + content for name, content in files.items()}
    with_mac = {**with_mark, **{f"__MACOSX/{name}": b"junk" for name in files}, "readme.txt": b"hello"}
    assert read_official(write_zip(tmp_path / "mac.zip", with_mac)) == expected


def edited(content: bytes, line: int, replacement: bytes) -> bytes:
    lines = content.split(b"\r\n")
    lines[line] = replacement
    return b"\r\n".join(lines)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: edited(c, 2, b'1,"benign (2)",2'), r"valid\.csv, line 3: .* a label 0 or 1"),
        (lambda c: edited(c, 2, b"1,benign (2)"), "line 3"),
        (lambda c: edited(c, 2, b"1,,0"), "line 3"),
        (lambda c: edited(c, 2, b'1,"benign (2),0'), r"valid\.csv, line"),
        (lambda c: edited(c, 0, b",img,tumor types"), r"has the columns \['', 'img', 'tumor types'\]"),
        (lambda c: c[: c.index(b"\r\n")], "lists no image"),
        (lambda c: b"", "has the columns"),
        (lambda c: c.decode().encode("utf-16"), "is not UTF-8"),
        (lambda c: edited(c, 1, "0,Gutartig (ä),0".encode("latin-1")), r"folder2/valid\.csv is not UTF-8 .* at byte"),
        (lambda c: c + b"x" * (5 * 2**20), "more than 4 MiB"),
    ],
)
def test_a_spoilt_file_is_refused_by_name(files, tmp_path, spoil: Callable[[bytes], bytes], message):
    name = "folder2/valid.csv"
    spoilt = {**files, name: spoil(files[name])}
    for path in (write_zip(tmp_path / "folds.zip", spoilt), write_folder(tmp_path / "folds", spoilt)):
        with pytest.raises(DatasetError, match=message) as raised:
            read_official(path)
        assert "folder2/valid.csv" in str(raised.value)


def test_missing_files_are_named_together(files, tmp_path):
    for name in ("folder3/test.csv", "folder5/train.csv"):
        del files[name]
    for path in (write_zip(tmp_path / "folds.zip", files), write_folder(tmp_path / "folds", files)):
        with pytest.raises(DatasetError, match=r"lacks folder3/test\.csv, folder5/train\.csv\. Expected is"):
            read_official(path)


def test_what_is_no_zip_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.zip not found"):
        read_official(tmp_path / "absent.zip")
    (tmp_path / "text.zip").write_text("Request access")
    with pytest.raises(DatasetError, match="cannot be read as a zip file"):
        read_official(tmp_path / "text.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"lacks folder1/train\.csv"):
        read_official(tmp_path / "empty")


@pytest.mark.parametrize("name", ["../evil.csv", "folder1/../../evil.csv", "/etc/evil.csv", "C:\\evil.csv", "..\\evil"])
def test_a_path_that_leaves_the_archive_is_refused(files, tmp_path, name):
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    path = write_zip(folder / "folds.zip", {**files, name: b"x"})
    with pytest.raises(DatasetError, match="a path that leaves the archive"):
        read_official(path)
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["folds.zip"]


def test_a_second_file_of_the_same_name_is_refused(files, tmp_path):
    with pytest.raises(DatasetError, match="more than once"):
        read_official(write_zip(tmp_path / "two.zip", {**files, **{f"old/{name}": files[name] for name in files}}))
    path = write_zip(tmp_path / "twice.zip", files)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("folder1/test.csv", files["folder1/test.csv"])
    with pytest.raises(DatasetError, match=r"folder1/test\.csv more than once"):
        read_official(path)


def test_a_bomb_is_refused_without_being_unpacked(files, tmp_path):
    import tracemalloc

    path = write_zip(tmp_path / "bomb.zip", {**files, "folder1/train.csv": b"0" * (300 * 2**20)})
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(DatasetError, match="more than 4 MiB unpacked"):
        read_official(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20
    many = write_zip(tmp_path / "many.zip", {f"{i}.csv": b"" for i in range(1500)})
    with pytest.raises(DatasetError, match="holds 1500 files"):
        read_official(many)


def test_a_header_that_lies_about_the_size_is_refused(files, tmp_path):
    path = write_zip(tmp_path / "liar.zip", {**files, "folder1/train.csv": b"0" * (20 * 2**20)})
    raw = path.read_bytes()
    path.write_bytes(raw.replace((20 * 2**20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(DatasetError, match=r"cannot be read as a zip file|more than 4 MiB|has the columns"):
        read_official(path)


# -- matching and reporting ------------------------------------------------------------------------


def report(rows: list[Any]) -> dict[str, Any]:
    manifest, groups = frames()
    matched = match([OfficialRow(*row) for row in rows], manifest)
    sources = ("hmss", "busi", "busis", "thammasat", "dataset_b")
    found = defects(matched, manifest, groups, sources)
    assert json.loads(json.dumps(found)) == found
    return found


CLEAN = ("never_tested", "tested_more_than_once", "listed_twice", "labels_against_source", "names_matching_none")
PER_FOLD = ("in_no_part", "in_several_parts", "cases_in_several_parts", "groups_in_several_parts")


def test_sound_folds_have_no_defect(rows):
    found = report(rows)
    assert all(found[key] == [] for key in CLEAN)
    assert all(found[key] == {f"fold_{k}": [] for k in range(1, 6)} for key in PER_FOLD)
    assert found["images"] == found["images_named"] == found["names"] == 90
    assert found["sources_absent"] == ["busis", "thammasat"]
    assert sum(found["balance"][f"fold_{k}"]["test"]["images"] for k in range(1, 6)) == 90
    share = found["validation_share"]["fold_1"]
    assert share["cases"] == pytest.approx(0.2, abs=0.06)
    text = describe(found)
    assert "not in the benchmark, so their names match nothing: busis, thammasat" in text
    assert "never tested" not in text
    assert text.count("the paper says 20%") == 5


def where(rows: list[Row], name: str, part: str) -> int:
    return next(i for i, row in enumerate(rows) if row[2] == name and row[1] == part)


def test_each_planted_defect_is_reported(rows):
    # a name of HMSS that Dataset B's would be without its zeros stays HMSS's; one that is nobody's matches none
    padded = next(row for row in rows if row[2] == "000007")
    rows = [(f, p, "7", label) if n == padded[2] else (f, p, n, label) for f, p, n, label in rows]
    rows.append((1, "train", "unheard of", 1))
    found = report(rows)
    assert found["names_matching_none"] == ["7", "unheard of"]
    assert found["names_without_zeros"] == ["7"]
    assert found["never_tested"] == ["dataset_b/000007"]
    assert found["never_tested_counts"] == {
        "dataset_b": {"benign": int(padded[3] == 0), "malignant": int(padded[3] == 1)}
    }
    assert found["in_no_part"]["fold_3"] == ["dataset_b/000007"]


def test_untested_images_wrong_labels_and_overlaps_are_reported(rows):
    fold = next(row[0] for row in rows if row[1:3] == ("test", "2801"))
    rows.pop(where(rows, "2801", "test"))
    found = report(rows)
    assert found["never_tested"] == ["hmss/2801"]
    assert found["in_no_part"][f"fold_{fold}"] == ["hmss/2801"]

    at = where(rows, "2803", "train")
    rows[at] = (*rows[at][:3], 1 - rows[at][3])
    at = where(rows, "2805", "test")
    torn = rows[at][0]
    rows[at] = (torn, "train", *rows[at][2:])
    rows.append((torn, "validation", *rows[at][2:]))
    rows.append(rows[at])
    other = torn % 5 + 1
    rows.append((other, "test", *rows[at][2:]))
    found = report(rows)
    labels = found["labels_against_source"]
    assert [each["image_id"] for each in labels] == ["hmss/2803"]
    assert {labels[0]["official"], labels[0]["source"]} == {"benign", "malignant"}
    assert found["in_several_parts"][f"fold_{torn}"] == ["hmss/2805"]
    assert "hmss/case3" in found["cases_in_several_parts"][f"fold_{torn}"]
    assert "hmss/case3" in found["groups_in_several_parts"][f"fold_{torn}"]
    assert found["listed_twice"] == ["hmss/2805"]
    assert found["in_several_parts"][f"fold_{other}"] == ["hmss/2805"]
    text = describe(found)
    for line in (
        "images never tested: 1: hmss/2801",
        f"fold {torn}: images in more than one part: 1: hmss/2805",
        "labels against the source, whose label is used: 1: hmss/2803",
        f"fold {torn}: cases in more than one part: 1: hmss/case3",
    ):
        assert line in text


def test_a_name_of_several_sources_is_reported_and_not_guessed():
    manifest, groups = frames()
    manifest.loc[manifest["name"] == "000003", ["name", "image_id"]] = ["2801", "dataset_b/2801"]
    groups["image_id"] = groups["image_id"].replace({"dataset_b/000003": "dataset_b/2801"})
    matched = match([OfficialRow(1, "test", "2801", 0), OfficialRow(1, "test", "benign (3).png", 0)], manifest)
    assert matched["image_id"].tolist() == ["", "busi/benign (3)"]
    found = defects(matched, manifest, groups, ("hmss", "busi", "dataset_b"))
    assert found["names_matching_several"] == {"2801": ["dataset_b/2801", "hmss/2801"]}
    assert "so none is taken: 1: 2801 (dataset_b/2801, hmss/2801)" in describe(found)


def test_validation_of_15_percent_is_seen(rows):
    for fold in range(1, 6):
        validating = [i for i, row in enumerate(rows) if row[:2] == (fold, "validation")]
        for i in validating[4:]:
            rows[i] = (fold, "train", *rows[i][2:])
    found = report(rows)
    assert found["validation_share"]["fold_2"]["images"] == round(
        4 / (90 - found["balance"]["fold_2"]["test"]["images"]), 4
    )


# -- the command, over phantoms --------------------------------------------------------------------


PARAMS = {
    "profile": "test",
    "seed": 1,
    "data": {"kind": "phantom", "root": "data/phantom", "sources": "all"},
    "phantom": {
        "images": {"hmss": 50, "busi": 40, "busis": 16, "thammasat": 10, "dataset_b": 12},
        "near_duplicates": 6,
        "size": 64,
    },
    "folds": {"kind": "official"},
    "cohorts": {"all": ["hmss", "busi"], "multitask": ["busi"]},
    "networks": {},
    "strategies": ["approaches"],
    "searches": {},
}


@pytest.fixture(scope="module")
def assembled(tmp_path_factory) -> Path:
    """A project of phantoms of all five sources, assembled and audited, with `folds.kind: official`."""
    folder = tmp_path_factory.mktemp("official")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "results" / "plan").mkdir(parents=True)
    (folder / "results" / "plan" / "sizes.json").write_text('{"sizes": [32]}')
    for stage in ("phantom", "assemble", "audit"):
        done = run_stage_here(stage, folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(assembled, tmp_path) -> Path:
    return Path(shutil.copytree(assembled, tmp_path / "project"))


def command(project: Path, *arguments: str) -> Any:
    from bus_mlops.cli.app import app

    before = Path.cwd()
    os.chdir(project)
    try:
        return CliRunner().invoke(app, ["folds", "import", *arguments])
    finally:
        os.chdir(before)


class Planted(NamedTuple):
    """folds.zip's rows over phantoms with the real one's defects, and what was done to them."""

    rows: list[Row]
    untested: list[str]
    relabelled: list[str]
    torn_case: str
    torn_cluster: str


def plant(manifest: pd.DataFrame, groups: pd.DataFrame) -> Planted:
    known = manifest.merge(groups, on="image_id")
    hmss = known[known["source"] == "hmss"]
    cases = [rows for _, rows in hmss.groupby("case_id") if len(rows) > 1 and rows["group"].nunique() == 1]
    mixed = next(rows for rows in cases if rows["label"].nunique() == 2)
    malignant, apart = [rows for rows in cases if rows["label"].nunique() == 1 and rows["label"].iloc[0] == 1][:2]
    cluster = next(rows for _, rows in known[known["source"] == "busi"].groupby("group") if len(rows) > 1)
    rows = official_rows(make_folds(manifest, groups, FoldsConfig(), 5))
    # as in the real folds: a malignant case is never tested, and misses from the fold that should test it
    rows = [row for row in rows if not (row[2] in set(malignant["name"]) and row[1] == "test")]
    # one label for a whole case, though it is mixed
    wrong = mixed[mixed["label"] == 1]
    rows = [(f, p, name, 0 if name in set(wrong["name"]) else label) for f, p, name, label in rows]
    for name in (apart["name"].iloc[0], cluster["name"].iloc[0]):
        at = where(rows, name, "test")
        home, other = rows[at][0], rows[at][0] % 5 + 1
        elsewhere = next(i for i, row in enumerate(rows) if row[0] == other and row[2] == name)
        rows[at], rows[elsewhere] = (home, "train", *rows[at][2:]), (other, "test", *rows[at][2:])
    return Planted(
        rows,
        sorted(malignant["image_id"]),
        sorted(wrong["image_id"]),
        str(apart["case_id"].iloc[0]),
        str(cluster["group"].iloc[0]),
    )


def test_import_over_phantoms_reports_and_repairs_nothing(project, tmp_path):
    manifest = Benchmark.open(project / "data/benchmark").frame
    groups = read_groups(project / "data/audit/groups.csv")
    planted = plant(manifest, groups)
    done = command(project, str(write_zip(tmp_path / "folds.zip", official_files(planted.rows))))
    assert done.exit_code == 0, done.output
    assert f"images never tested: {len(planted.untested)}: {planted.untested[0]}" in done.output
    assert "set folds.kind to official" in done.output
    folder = project / "data/folds-official"
    found = json.loads((folder / "report.json").read_text())
    assert found["never_tested"] == planted.untested
    assert found["never_tested_counts"] == {"hmss": {"benign": 0, "malignant": len(planted.untested)}}
    assert sorted(len(images) for images in found["in_no_part"].values()) == [0, 0, 0, 0, len(planted.untested)]
    assert [each["image_id"] for each in found["labels_against_source"]] == planted.relabelled
    assert sum(planted.torn_case in cases for cases in found["cases_in_several_parts"].values()) >= 1
    assert sum(planted.torn_cluster in names for names in found["groups_in_several_parts"].values()) >= 1
    assert found["names_matching_none"] == []
    assert found["names_matching_several"] == {}
    assert found["names"] == len(manifest)  # also the zero-padded names of Dataset B
    assert [OfficialRow(*row) for row in sorted(planted.rows)] == sorted(read_imported(folder))
    as_json = command(project, "--json", str(tmp_path / "folds.zip"))
    assert json.loads(as_json.output) == found


def test_imported_folds_are_used_as_they_are_and_their_leaks_counted(project, tmp_path):
    manifest = Benchmark.open(project / "data/benchmark").frame
    planted = plant(manifest, read_groups(project / "data/audit/groups.csv"))
    assert command(project, str(write_folder(tmp_path / "folds", official_files(planted.rows)))).exit_code == 0
    found = json.loads((project / "data/folds-official/report.json").read_text())
    for stage in ("folds", "leakage"):
        done = run_stage_here(stage, project)
        assert done.returncode == 0, done.stderr
    checked = json.loads((project / "data/leakage.json").read_text())
    assert checked["kind"] == "official"
    torn = set().union(*found["groups_in_several_parts"].values())
    counted = {name: set().union(*found[name].values()) for name in ("leaks", "validation_leaks")}
    assert len(torn) >= 2
    assert set().union(*counted.values()) == torn
    assert {name: checked[name] for name in counted} == {name: len(groups) for name, groups in counted.items()}
    assert f"LEAKS: {checked['leaks']} groups" in done.stdout
    folds = Folds.open(project / "data/folds/folds.csv", manifest["image_id"])
    assert check_leakage(folds, tolerate=True) == checked
    tested = (folds.frame.filter(like="fold_") == "test").any(axis=1)
    assert sorted(folds.frame.loc[~tested, "image_id"]) == planted.untested
    for fold, part, name, _ in planted.rows:
        image = next(image for image in manifest.loc[manifest["name"] == name, "image_id"])
        assert folds.parts(fold)[image] == part
    # labels are the sources' own, whatever folds.zip says
    assert folds.frame.set_index("image_id")["label"].to_dict() == manifest.set_index("image_id")["label"].to_dict()

    path = project / "params.yaml"
    path.write_text(path.read_text().replace("kind: official", "kind: grouped"))
    done = run_stage_here("leakage", project)
    assert done.returncode == 1
    assert "holds folds of kind official, params.yaml asks for grouped" in done.stderr


def test_what_the_audit_excludes_is_taken_out_of_imported_folds(project, tmp_path):
    manifest = Benchmark.open(project / "data/benchmark").frame
    planted = plant(manifest, read_groups(project / "data/audit/groups.csv"))
    assert command(project, str(write_folder(tmp_path / "folds", official_files(planted.rows)))).exit_code == 0
    path = project / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"audit": {"exclude": "duplicates"}}))
    for stage in ("folds", "leakage"):
        done = run_stage_here(stage, project)
        assert done.returncode == 0, done.stderr
    exclusions = read_exclusions(project / "data/audit/exclusions.csv")
    spare = set(exclusions.loc[exclusions["reason"] == "duplicate", "image_id"])
    assert spare
    folds = Folds.open(project / "data/folds/folds.csv")
    assert set(folds.frame["image_id"]) == set(manifest["image_id"]) - spare


def test_official_folds_that_were_never_imported_say_how(project):
    done = run_stage_here("folds", project)
    assert done.returncode == 1
    assert "run `bus-mlops folds import folds.zip`" in done.stderr
    assert "Traceback" not in done.stderr


def test_import_without_a_benchmark_says_what_to_run_first(files, tmp_path):
    write_zip(tmp_path / "folds.zip", files)
    code = "from bus_mlops.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "folds", "import", "folds.zip"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "dvc repro assemble" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_what_was_imported_is_read_back_or_refused(rows, tmp_path):
    official = [OfficialRow(*row) for row in rows]
    path = tmp_path / "folds.csv"
    write_imported(match(official, frames()[0]), path)
    assert read_imported(tmp_path) == official
    text = path.read_text()
    for spoilt in (
        text.replace("1,train,", "9,train,", 1),
        text.replace(",train,", ",training,", 1),
        text.replace("fold,part", "part,fold"),
        text.splitlines()[0],
        "",
        text.replace(",0,", ",2,", 1),
    ):
        path.write_text(spoilt)
        with pytest.raises(DatasetError, match=r"folds\.csv.*[Ii]mport"):
            read_imported(tmp_path)
