"""`bus-mlops sources verify`: everything wrong is named at once; a smaller set is no error."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sources import (
    breast_folder,
    buid_folder,
    bus_uclm_folder,
    busbra_folder,
    busi_folder,
    busis_folder,
    dataset_b_folder,
    gdph_sysucc_folder,
    hmss_folder,
    hmss_row,
    mask,
    picture,
    thammasat_folder,
)

from bus_mlops.config import DataConfig
from bus_mlops.dataset.convert import load, require_visible
from bus_mlops.errors import ImageError, SourceError
from bus_mlops.sources.phantoms.write import NOTICE
from bus_mlops.sources.registry import NOTICE_FILE, SOURCES, read_sources
from bus_mlops.sources.verify import Report, SourceReport, verify

ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bus_mlops.cli import main; main()", "sources", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def only(report: Report) -> SourceReport:
    (source,) = report.sources
    return source


def test_a_smaller_set_is_no_error_and_names_what_is_not_there(tmp_path):
    busi_folder(tmp_path / "busi", benign=3, malignant=1)
    report = verify(tmp_path)
    busi = only(report)
    assert (report.errors, busi.status) == (0, "smaller")
    assert (busi.found.images, busi.found.benign, busi.found.malignant, busi.found.with_mask) == (4, 3, 1, 4)
    assert busi.expected is not None
    assert (busi.expected.images, busi.expected.benign, busi.expected.malignant) == (647, 437, 210)
    assert len(busi.not_there) == 643
    assert busi.not_there[0] == "benign (4)"
    assert report.absent == tuple(name for name in SOURCES if name != "busi")
    assert "643 images fewer than the official list's 647. Not there: benign (4)" in busi.notes[0]


def test_a_whole_source_is_complete_until_one_image_is_missing_or_renamed(tmp_path):
    folder = busi_folder(tmp_path / "busi", benign=437, malignant=210)
    busi = only(verify(tmp_path))
    assert (busi.status, busi.errors, busi.notes, busi.not_there) == ("complete", [], [], [])
    for end in (".png", "_mask.png"):
        (folder / "benign" / f"benign (7){end}").rename(folder / "benign" / f"benign (700){end}")
    busi = only(verify(tmp_path))
    assert (busi.status, busi.errors) == ("differs", [])
    assert "other names: benign (700) instead of benign (7)." in busi.notes[0]
    for end in (".png", "_mask.png"):
        (folder / "benign" / f"benign (700){end}").unlink()
    busi = only(verify(tmp_path))
    assert (busi.status, busi.errors, busi.not_there) == ("smaller", [], ["benign (7)"])
    assert busi.notes == ["1 images fewer than the official list's 647. Not there: benign (7)."]


def test_every_table_led_defect_is_named(tmp_path):
    folder = busis_folder(tmp_path / "busis", "BMBMBMB")
    (folder / "imgs" / "case0001.png").unlink()
    (folder / "GT" / "case0002_GT.png").unlink()
    (folder / "imgs" / "case0003.png").write_bytes(b"<html>")
    mask(folder / "GT" / "case0004_GT.png", (7, 5))
    Image.new("L", (6, 5)).save(folder / "GT" / "case0005_GT.png")
    picture(folder / "imgs" / "case0099.png")
    mask(folder / "GT" / "case0098_GT.png")
    table = folder / "BUSIS562.csv"
    table.write_text(table.read_text().replace("case0007_GT,B", "case0007_GT,X"))
    report = verify(tmp_path)
    busis = only(report)
    assert busis.status == "error"
    assert busis.missing_files == ["imgs/case0001.png", "GT/case0002_GT.png"]
    assert busis.unreadable_files == ["imgs/case0003.png"]
    assert busis.images_without_mask == ["case0002"]
    assert busis.masks_without_image == ["GT/case0098_GT.png"]
    assert busis.size_mismatches == ["GT/case0004_GT.png"]
    assert busis.empty_masks == ["case0005"]
    assert busis.unlisted_images == ["imgs/case0099.png"]
    assert [row.split()[-1] for row in busis.bad_rows] == ["8"]
    assert report.errors == len(busis.errors) == 5
    assert any("row 8: label 'X' is neither 'B' nor 'M'" in message for message in busis.errors)
    with pytest.raises(SourceError, match=r"(?s)row 8: label 'X'.*names 'case0001'.*names 'case0002_GT'"):
        read_sources(DataConfig(kind="real", root=tmp_path, sources="all"))


def test_every_defect_of_busi_is_named(tmp_path):
    folder = busi_folder(tmp_path / "busi", benign=3, malignant=2)
    (folder / "benign" / "benign (1)_mask.png").unlink()
    (folder / "benign" / "benign (2).png").unlink()
    (folder / "malignant" / "malignant (1).png").write_bytes(b"")
    (folder / "malignant" / "malignant (2).png").rename(folder / "benign" / "malignant (2).png")
    mask(folder / "benign" / "benign (3)_mask_1.png", (5, 5))
    busi = only(verify(tmp_path))
    assert busi.images_without_mask == ["benign (1)"]
    assert busi.masks_without_image == ["benign/benign (2)_mask.png", "malignant/malignant (2)_mask.png"]
    assert busi.unreadable_files == ["malignant/malignant (1).png"]
    assert busi.misplaced_files == ["benign/malignant (2).png"]
    assert busi.size_mismatches == ["benign/benign (3)_mask_1.png"]
    assert len(busi.errors) == 6


def test_conflicts_and_duplicates_are_notes(tmp_path):
    case = "33278-Afbeelding1"
    words = {case: "Benign", "a": "Malignant", "b": "Malignant"}
    folder = hmss_folder(tmp_path / "hmss", [hmss_row(name, case, word) for name, word in words.items()])
    whole = folder / "imgs"
    (whole / "b.jpg").write_bytes((whole / f"{case}.jpg").read_bytes())
    report = verify(tmp_path)
    assert report.errors == 0
    (conflict,) = only(report).label_conflicts
    assert conflict["case_id"] == f"hmss/{case}"
    assert conflict["malignant"] == ("hmss/a", "hmss/b")
    (group,) = report.duplicates
    assert (group.image_ids, group.conflicting) == ((f"hmss/{case}", "hmss/b"), True)


def test_duplicates_are_found_across_sources_and_by_pixels_not_bytes(tmp_path):
    busis_folder(tmp_path / "busis", "BM", ".bmp")
    busi_folder(tmp_path / "busi", 1, 1)
    picture(tmp_path / "busi" / "benign" / "benign (1).png", shade=20, mode="RGB")  # case0001, from another program
    (group,) = verify(tmp_path).duplicates
    assert (group.image_ids, group.conflicting) == (("busi/benign (1)", "busis/case0001"), False)


def test_the_same_file_with_two_crops_is_two_images(tmp_path):
    rows = [hmss_row("1", "1", "Benign", crop="0,5,0,5"), hmss_row("2", "2", "Benign", crop="4,5,0,5")]
    folder = hmss_folder(tmp_path / "hmss", rows)
    (folder / "imgs" / "2.jpg").write_bytes((folder / "imgs" / "1.jpg").read_bytes())
    assert verify(tmp_path).duplicates == ()


def test_a_crop_that_leaves_the_image_is_an_error(tmp_path):
    thammasat_folder(tmp_path / "thammasat", ["u,Case-1-U1,Case-1,benign,1,50,1,6"])
    thammasat = only(verify(tmp_path))
    assert thammasat.crops_outside == ["Case-1-U1"]
    assert "row 2" in thammasat.errors[0]


def test_a_source_that_cannot_be_surveyed_leaves_the_others(tmp_path):
    (tmp_path / "hmss").mkdir()
    dataset_b_folder(tmp_path / "dataset_b")
    report = verify(tmp_path)
    assert [(each.source, each.status) for each in report.sources] == [("hmss", "error"), ("dataset_b", "smaller")]
    assert "HMSS.csv not found" in report.sources[0].errors[0]


def test_counts_that_differ_from_the_official_ones(tmp_path):
    dataset_b_folder(tmp_path / "dataset_b", [f"{n:06d}" for n in range(163)])
    dataset_b = only(verify(tmp_path))
    assert dataset_b.status == "differs"
    assert "as many images as in the official list, but 162 benign, 1 malignant" in dataset_b.notes[0]
    (tmp_path / "dataset_b" / "DatasetB.xlsx").unlink()
    dataset_b_folder(tmp_path / "dataset_b", [f"{n:06d}" for n in range(164)])
    dataset_b = only(verify(tmp_path))
    assert (dataset_b.status, dataset_b.errors) == ("differs", [])
    assert "1 images more than" in dataset_b.notes[0]


def test_folders_that_may_be_meant_are_named(tmp_path):
    (tmp_path / "Dataset B").mkdir()
    with pytest.raises(SourceError, match=r"holds none of the sources.*if it holds Dataset B, name it 'dataset_b'"):
        verify(tmp_path)
    busi_folder(tmp_path / "busi")
    assert "name it 'dataset_b'" in verify(tmp_path).notes[0]


def test_phantoms_are_compared_with_nothing(tmp_path):
    busi_folder(tmp_path / "busi")
    (tmp_path / NOTICE_FILE).write_text(NOTICE)
    report = verify(tmp_path)
    assert report.synthetic
    assert (only(report).expected, only(report).status, only(report).notes) == (None, "not compared", [])
    done = run("verify", "--root", str(tmp_path), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout


def test_command_for_people_and_machines(tmp_path):
    busi_folder(tmp_path / "data" / "raw" / "busi", 2, 1)
    done = run("verify", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 of 647" in done.stdout
    assert "0 errors" in done.stdout
    (tmp_path / "data" / "raw" / "busi" / "benign" / "benign (2)_mask.png").unlink()
    done = run("verify", "--json", folder=tmp_path)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["errors"] == 1
    assert report["kind"] == "real"
    assert report["sources"]["busi"]["images_without_mask"] == ["benign (2)"]
    assert report["sources"]["busi"]["expected"]["malignant"] == 210
    assert report["absent"] == [name for name in SOURCES if name != "busi"]
    assert "[bold]" not in done.stdout


def test_command_takes_the_root_of_params_yaml(tmp_path, demo_values):
    import yaml

    busi_folder(tmp_path / "images [mine]" / "busi", 2, 1)
    demo_values["data"] |= {"kind": "real", "root": "images [mine]"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(demo_values))
    done = run("verify", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "images [mine]" in done.stdout
    done = run("verify", "--root", "elsewhere", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: elsewhere holds none of the sources' folders")


def test_real_busi_is_complete_with_its_one_identical_pair(real_busi):
    report = verify(real_busi)
    busi = next(each for each in report.sources if each.source == "busi")
    assert (busi.status, busi.errors, busi.notes) == ("complete", [], [])
    pairs = [(group.image_ids, group.conflicting) for group in report.duplicates]
    assert pairs == [(("busi/benign (433)", "busi/malignant (145)"), True)]


def test_real_busi_says_what_it_leaves_out(real_busi):
    busi = next(each for each in verify(real_busi).sources if each.source == "busi")
    assert busi.left_out == {"normal images (no lesion)": 133}


def test_litter_of_other_systems_is_passed_over_and_counted(tmp_path):
    folder = busi_folder(tmp_path / "busi")
    (folder / "@eaDir" / "benign").mkdir(parents=True)
    for name in ("Thumbs.db", "._benign (1).png", ".DS_Store", "desktop.ini"):
        (folder / "benign" / name).write_bytes(b"\0\5\x16\7")
    (folder / "__MACOSX" / "benign").mkdir(parents=True)
    picture(folder / "__MACOSX" / "benign" / "._benign (1).png")
    report = verify(tmp_path)
    assert (only(report).errors, only(report).found.images) == ([], 3)
    assert only(report).left_out == {"normal images (no lesion)": 1, "files of other systems": 6}
    done = run("verify", "--root", str(tmp_path), folder=tmp_path)
    assert "left out: busi: 6 files of other systems" in done.stdout
    assert "left out: busi: 1 normal images (no lesion)" in done.stdout


def test_rows_without_a_crop_are_noted(tmp_path):
    rows = [hmss_row("1", "1", "Benign"), hmss_row("2", "2", "Malignant", crop=",,,")]
    hmss_folder(tmp_path / "hmss", rows)
    hmss = only(verify(tmp_path))
    assert (hmss.errors, hmss.found.images) == ([], 2)
    assert [place.split()[-1] for place in hmss.rows_without_crop] == ["3"]
    assert any("1 row(s) have no crop, so the whole screen is taken" in note for note in hmss.notes)


def test_a_crop_or_picture_in_which_nothing_is_seen_is_an_error(tmp_path):
    folder = hmss_folder(tmp_path / "hmss", [hmss_row("1", "1", "Benign", crop="0,5,0,12")])
    pixels = np.full((10, 12), 40, np.uint8)
    pixels[6:] = np.arange(48, dtype=np.uint8).reshape(4, 12) * 5  # outside the crop
    Image.fromarray(pixels).save(folder / "imgs" / "1.jpg", quality=100)
    assert "row 2" in only(verify(tmp_path)).errors[0]
    assert "is almost of one value" in only(verify(tmp_path)).errors[0]
    (record,) = read_sources(DataConfig(kind="real", root=tmp_path, sources="all"))
    with pytest.raises(ImageError, match=r"row 2: the crop of .*1\.jpg is almost of one value"):
        require_visible(record, load(record, "gray")[0])
    whole = dataclasses.replace(record, crop=None)
    require_visible(whole, load(whole, "gray")[0])


def test_a_part_of_a_mask_is_never_lost(tmp_path):
    folder = busi_folder(tmp_path / "busi", benign=1, malignant=0)
    pixels = np.zeros((5, 6), np.uint8)
    pixels[0:2, 0:2], pixels[3:5, 4:6] = 255, 60
    Image.fromarray(pixels).save(folder / "benign" / "benign (1)_mask.png")
    (error,) = only(verify(tmp_path)).errors
    assert "benign (1)_mask.png: 4 pixels of value 60 are marked but do not exceed 127" in error


def test_names_that_are_no_utf_8_are_escaped(tmp_path):
    folder = busi_folder(tmp_path / "busi", benign=1, malignant=1)
    raw = os.fsencode(folder / "benign") + b"/benign gr\xfcn"
    picture(Path(os.fsdecode(raw + b".png")))
    mask(Path(os.fsdecode(raw + b"_mask.png")))
    records = read_sources(DataConfig(kind="real", root=tmp_path, sources="all"))
    assert [record.name for record in records] == ["benign (1)", "benign gr\\xfcn", "malignant (1)"]
    assert all(record.masks for record in records)
    Path(os.fsdecode(raw + b".png")).write_bytes(b"no image")
    for arguments in (("verify",), ("verify", "--json")):
        done = run(*arguments, "--root", str(tmp_path), folder=tmp_path)
        assert done.returncode == 1
        assert "gr\\xfcn.png is not an image" in done.stdout.replace("\\\\", "\\")


def deeper(folder: Path, *names: str) -> None:
    """Put all that a folder holds into folders of these names below it."""
    inside = folder.with_name("aside")
    folder.rename(inside)
    (folder / Path(*names)).parent.mkdir(parents=True)
    inside.rename(folder / Path(*names))


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "breast": breast_folder,
    "buid": buid_folder,
    "bus_uclm": bus_uclm_folder,
    "busbra": busbra_folder,
    "busi": busi_folder,
    "busis": busis_folder,
    "dataset_b": dataset_b_folder,
    "gdph_sysucc": gdph_sysucc_folder,
    "hmss": lambda folder: hmss_folder(folder, [hmss_row("1", "1", "Benign"), hmss_row("2", "2", "Malignant")]),
    "thammasat": lambda folder: thammasat_folder(folder, ["u,Case-1-U1,Case-1,benign,1,5,1,6"]),
}


@pytest.mark.parametrize("names", [("archive",), ("archive", "Dataset_BUSI_with_GT"), ("a", "b", "c")])
@pytest.mark.parametrize("source", LAYOUTS)
def test_a_source_may_lie_deeper_than_its_folder(tmp_path, source, names):
    folder = tmp_path / source
    LAYOUTS[source](folder)
    before = [(record.name, record.label, len(record.masks)) for record in SOURCES[source].read(folder)]
    deeper(folder, *names)
    (folder / "__MACOSX" / names[0]).mkdir(parents=True)
    after = SOURCES[source].read(folder)
    assert [(record.name, record.label, len(record.masks)) for record in after] == before
    assert all(record.image.is_relative_to(folder / Path(*names)) for record in after)


@pytest.mark.parametrize("source", LAYOUTS)
def test_two_copies_of_a_source_are_an_error_that_names_both(tmp_path, source):
    folder = tmp_path / source
    LAYOUTS[source](folder / "one")
    LAYOUTS[source](folder / "another")
    with pytest.raises(SourceError, match=r"/another/.* and .*/one/.* are both there.*Keep one copy"):
        SOURCES[source].read(folder)


def test_images_may_lie_in_a_folder_of_the_same_name_once_more(tmp_path):
    folder = busis_folder(tmp_path / "busis")
    deeper(folder / "imgs", "imgs")
    assert [record.name for record in SOURCES["busis"].read(folder)] == ["case0001", "case0002"]
