"""A hospital's labelled cases: a csv or two folders, and what is said where they are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_package import speckle

from bus_mlops.consumer.local_cases import read_cases
from bus_mlops.errors import SourceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images in `scans/` of a folder without any labels."""
    (tmp_path / "scans").mkdir()
    for number in range(6):
        Image.fromarray(speckle(40, 50, number)).save(tmp_path / "scans" / f"{number}.png")
    return tmp_path


def table(folder: Path, text: str, name: str = "cases.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_csv_says_label_patient_and_scanner(folder, separator, start):
    rows = [
        "File,Label,note,Patient,Scanner",
        "scans/0.png,benign,x,p1,A",
        "scans/1.png, 1 ,y,p2,",
        "scans/2.png,Malignant,,p2,B",
    ]
    path = table(folder, start + "\n".join(rows).replace(",", separator) + "\n\n")
    for named in (folder, path):
        found = read_cases(named)
        assert [(each.name, each.label, each.patient, each.scanner) for each in found.images] == [
            ("scans/0.png", 0, "p1", "A"),
            ("scans/1.png", 1, "p2", ""),
            ("scans/2.png", 1, "p2", "B"),
        ]
        assert [each.path for each in found.images] == [folder / "scans" / f"{number}.png" for number in range(3)]


def test_without_a_patient_each_image_is_a_case(folder):
    table(folder, "file,label\nscans/0.png,0\nscans/1.png,1\n")
    assert [each.patient for each in read_cases(folder).images] == ["scans/0.png", "scans/1.png"]


def test_two_folders_without_masks_and_others(folder):
    for label, numbers in {"Benign": (0, 1), "malignant": (2,), "normal": (3,)}.items():
        (folder / label).mkdir()
        for number in numbers:
            (folder / "scans" / f"{number}.png").rename(folder / label / f"{number}.png")
    Image.fromarray(speckle(40, 50, 9)).save(folder / "Benign" / "0_mask.png")
    (folder / "notes.csv").write_text("what,when\n")
    found = read_cases(folder)
    assert [(each.name, each.label) for each in found.images] == [
        ("Benign/0.png", 0),
        ("Benign/1.png", 0),
        ("malignant/2.png", 1),
    ]
    assert "skipped in benign/: 1 masks" in found.notes[0]
    assert found.notes[1] == "other folders are not read: normal, scans"


def test_copies_are_left_out_and_said(folder):
    copied = folder / "scans" / "copy.png"
    copied.write_bytes((folder / "scans" / "0.png").read_bytes())
    table(folder, "file,label\nscans/0.png,0\nscans/1.png,1\nscans/copy.png,0\n")
    found = read_cases(folder)
    assert len(found.images) == 2
    assert found.notes == ("1 copies of other files are left out: scans/copy.png",)
    table(folder, "file,label\nscans/0.png,0\nscans/1.png,1\nscans/copy.png,1\n")
    with pytest.raises(SourceError, match=r"scans/0.png is benign and scans/copy.png, the same picture, is malignant"):
        read_cases(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("picture,label\n", "has the columns picture, label, but file and label are needed"),
        ("", r"has the columns \(none\)"),
        ("file,label,label\n", "names a column twice"),
        ("file,label\nscans/0.png,normal\n", "line 2: label must be benign, malignant, 0 or 1 but is 'normal'"),
        ("file,label\nscans/77.png,0\n", "line 2: there is no file .*77.png. Paths count from the csv's own folder"),
        ("file,label\nscans,0\n", "line 2: there is no file"),
        ("file,label\n,0\n", "line 2: there is no file"),
        (
            "file,label\nscans/0.png,0\nscans/../scans/0.png,0\n",
            "line 3: scans/../scans/0.png stands in line 2 already",
        ),
        ("file,label\nscans/0.png\n", "line 2 has 1 values, but there are 2 columns"),
        ("file,label,patient\nscans/0.png,0,\n", "line 2: scans/0.png has no patient"),
        ("file,label\nscans/0.png,0\n", "has no malignant image among 1"),
        ("file,label\n", "has no benign image among 0"),
    ],
)
def test_a_csv_that_cannot_be_right_says_where(folder, text, said):
    table(folder, text)
    with pytest.raises(SourceError, match=said):
        read_cases(folder)


def test_folders_that_cannot_be_right(folder):
    with pytest.raises(SourceError, match=r"holds scans. Put there a csv with the columns file,label"):
        read_cases(folder)
    with pytest.raises(SourceError, match="is no folder and no csv file"):
        read_cases(folder / "absent")
    with pytest.raises(SourceError, match="is no folder and no csv file"):
        read_cases(folder / "scans" / "0.png")
    (folder / "other.csv").write_bytes(b"file,label\n\xff\xfe")
    with pytest.raises(SourceError, match="cannot be read as text"):
        read_cases(folder)
    table(folder, "file,label\nscans/0.png,0\n", "other.csv")
    table(folder, "file,label\nscans/0.png,1\n")
    with pytest.raises(SourceError, match=r"has cases.csv and other.csv, which both name files and labels"):
        read_cases(folder)
