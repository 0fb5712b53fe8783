"""BrEaST, BUS-UCLM, GDPH&SYSUCC and BUID: what each says of an image, its quirks, and copies that are not in order."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_sources import (
    BREAST_SHEET,
    breast_folder,
    buid_folder,
    bus_uclm_folder,
    colored_mask,
    gdph_sysucc_folder,
    mask,
    picture,
    xlsx,
)

from bus_mlops.config import DataConfig
from bus_mlops.dataset.convert import load
from bus_mlops.errors import ImageError, SourceError
from bus_mlops.sources import breast, buid, bus_uclm, gdph_sysucc
from bus_mlops.sources.record import NORMAL
from bus_mlops.sources.registry import SOURCES, read_each
from bus_mlops.sources.verify import verify

GREEN, RED, BLUE, WHITE = (0, 255, 0), (255, 0, 0), (0, 0, 255), (255, 255, 255)


def incomplete(root, source):
    """What is read of a source with `sources_incomplete: report`."""
    data = DataConfig(kind="real", root=root, sources=(source,), sources_incomplete="report")
    return read_each(data)[source]


@pytest.mark.parametrize("table", [".xlsx", ".csv"])
def test_breast_says_category_lesions_and_what_is_normal(tmp_path, table):
    survey = breast.SOURCE.survey(breast_folder(tmp_path, table))
    assert survey.problems == ()
    assert [(each.name, each.case, each.label, each.findings.birads) for each in survey.records] == [
        ("case001", "case001", 0, "2"),
        ("case002", "case002", 1, "4C"),
    ]
    assert [[path.name for path in each.masks] for each in survey.records] == [
        ["case001_tumor.png"],
        ["case002_tumor1.png", "case002_tumor2.png"],
    ]
    assert [(each.name, each.label, each.masks) for each in survey.normal] == [("case003", NORMAL, ())]
    assert survey.left_out == {
        "normal images (no lesion)": 1,
        "masks of findings that have no class (_other)": 2,
    }


def test_breast_pictures_of_four_channels_are_those_of_one(tmp_path):
    record = breast.SOURCE.read(breast_folder(tmp_path))[0]
    gray = picture(tmp_path / "elsewhere" / "gray.png")
    assert np.array_equal(load(record, "gray")[0], np.asarray(Image.open(gray)))


def test_breast_may_lie_in_one_flat_folder(tmp_path):
    breast_folder(tmp_path / "one")
    assert len(breast.SOURCE.read(breast_folder(tmp_path / "flat", inner="."))) == 2


def test_breast_further_findings_that_are_not_there_stop_nothing(tmp_path):
    (breast_folder(tmp_path, inner="i") / "i" / "case001_other2.png").unlink()
    survey = breast.SOURCE.survey(tmp_path)
    assert len(survey.require_sound()) == 2
    assert "file(s) that are not read and that are not in" in survey.problems[0].message
    assert survey.items("missing_masks") == ("i/case001_other2.png",)


def test_breast_a_lesion_without_a_mask_is_an_error(tmp_path):
    breast_folder(tmp_path, ".csv")
    table = tmp_path / f"{BREAST_SHEET}.csv"
    table.write_text(table.read_text().replace("case001_tumor.png", ""))
    with pytest.raises(SourceError, match="row 2: 'case001' is called 'benign' and has no mask"):
        breast.SOURCE.read(tmp_path)


def test_bus_uclm_patients_normals_and_colours(tmp_path):
    survey = bus_uclm.SOURCE.survey(bus_uclm_folder(tmp_path))
    assert survey.problems == ()
    assert [(each.name, each.case, each.label) for each in survey.records] == [
        ("ALWI_000", "ALWI", 0),
        ("ANAT_000", "ANAT", 1),
    ]
    assert {each.findings.scanner for each in survey.records} == {"Siemens ACUSON S2000"}
    assert [(each.name, each.case, len(each.masks)) for each in survey.normal] == [("ALWI_001", "ALWI", 1)]
    counted = [load(record, "gray")[1] for record in survey.records]
    assert [int(each.sum()) for each in counted if each is not None] == [3, 6]  # both lesions of the second


@pytest.mark.parametrize(
    ("name", "colors", "complaint"),
    [
        ("ALWI_000", [BLUE], r"3 pixels are marked in \(0, 0, 255\).*is marked in \(0, 255, 0\)"),
        ("ALWI_000", [WHITE], r"marked in \(255, 255, 255\)"),
        ("ALWI_000", [GREEN, RED], r"3 pixels are marked in \(255, 0, 0\)"),  # its label says benign
        ("ANAT_000", [GREEN], r"marked in \(0, 255, 0\).*is marked in \(255, 0, 0\), and at most \(0, 255, 0\)"),
        ("ANAT_000", [RED, (255, 255, 0)], r"marked in \(255, 255, 0\)"),
    ],
)
def test_bus_uclm_a_mask_of_another_colour_is_named_and_never_counted(tmp_path, name, colors, complaint):
    folder = bus_uclm_folder(tmp_path / "bus_uclm")
    colored_mask(folder / "masks" / f"{name}.png", *colors)
    record = next(each for each in bus_uclm.SOURCE.read(folder) if each.name == name)
    with pytest.raises(ImageError, match=complaint):
        load(record, "gray")
    (report,) = verify(tmp_path).sources
    assert report.unreadable_files == [f"masks/{name}.png"]
    assert report.status == "error"


def test_bus_uclm_a_mask_of_another_size_is_an_error_or_left_out_and_counted(tmp_path):
    folder = bus_uclm_folder(tmp_path / "bus_uclm")
    colored_mask(folder / "masks" / "ALWI_000.png", GREEN, size=(9, 8))
    with pytest.raises(SourceError, match=r"masks/ALWI_000\.png\. Restore both.*\n.*sources_incomplete to report"):
        bus_uclm.SOURCE.read(folder)
    reading = incomplete(tmp_path, "bus_uclm")
    assert [record.name for record in reading.records] == ["ANAT_000"]
    assert reading.left_out == {"mask of another size": 1}


def test_bus_uclm_a_normal_image_with_a_lesion_is_a_note(tmp_path):
    folder = bus_uclm_folder(tmp_path / "bus_uclm")
    colored_mask(folder / "masks" / "ALWI_001.png", RED)
    (report,) = verify(tmp_path).sources
    assert report.errors == []
    assert any("called normal, and a mask marks a lesion in them: ALWI_001" in note for note in report.notes)
    assert report.found.normal == 1
    assert report.expected is not None
    assert (report.expected.normal, report.expected.cases) == (419, report.found.cases)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_may_have_another_separator_and_a_byte_order_mark(tmp_path, separator):
    table = bus_uclm_folder(tmp_path) / "INFO.csv"
    table.write_text(table.read_text().replace(";", separator), encoding="utf-8-sig")
    assert len(bus_uclm.SOURCE.read(tmp_path)) == 2


@pytest.mark.parametrize("hospitals", [True, False])
def test_gdph_sysucc_is_read_in_both_layouts(tmp_path, hospitals):
    records = gdph_sysucc.SOURCE.read(gdph_sysucc_folder(tmp_path, hospitals))
    assert [(each.name, each.case, each.label) for each in records] == [
        ("benign(0)", "benign(0)", 0),
        ("malignant(0)", "malignant(0)", 1),
        ("benign(1)", "benign(1)", 0),
    ]
    assert [each.findings.birads for each in records] == (["2", "4B", "4A"] if hospitals else ["", "", ""])


def test_gdph_sysucc_both_layouts_at_once_are_two_copies(tmp_path):
    gdph_sysucc_folder(tmp_path)
    gdph_sysucc_folder(tmp_path, hospitals=False)
    with pytest.raises(SourceError, match="are both there: two copies"):
        gdph_sysucc.SOURCE.read(tmp_path)


def test_gdph_sysucc_half_a_folder_says_which_half(tmp_path):
    shutil.rmtree(gdph_sysucc_folder(tmp_path) / "GDPH")
    with pytest.raises(SourceError, match="GDPH not found"):
        gdph_sysucc.SOURCE.read(tmp_path)


def test_gdph_sysucc_a_label_against_the_name_is_an_error(tmp_path):
    table = gdph_sysucc_folder(tmp_path, hospitals=False) / "label.csv"
    table.write_text(table.read_text().replace("benign(1).png,0", "benign(1).png,1"))
    with pytest.raises(SourceError, match=r"row 4: 'benign\(1\)\.png' has label '1', but a name that says benign"):
        gdph_sysucc.SOURCE.read(tmp_path)


def test_gdph_sysucc_a_category_that_is_none_is_empty_and_said(tmp_path):
    gdph_sysucc_folder(tmp_path)
    rows: list[list[object]] = [["benign(0)", "c", 3, 1], ["malignant(0)", 5, 5, 2], ["benign(1)", None, 3, 3]]
    xlsx(tmp_path / "BIRADS&FOLD.xlsx", [["ID", "BIRADS-reader1", "BIRADS-reader2", "fold"], *rows])
    survey = gdph_sysucc.SOURCE.survey(tmp_path)
    assert [each.findings.birads for each in survey.require_sound()] == ["", "5", ""]
    assert "row 2: 'c'" in survey.problems[0].message


def test_gdph_sysucc_one_image_in_both_hospitals_is_named(tmp_path):
    gdph_sysucc_folder(tmp_path)
    picture(tmp_path / "GDPH" / "benign(0).png")
    with pytest.raises(SourceError, match=r"GDPH/benign\(0\)\.png and .*SYSUCC/benign\(0\)\.png have one name"):
        gdph_sysucc.SOURCE.read(tmp_path)


def test_gdph_sysucc_identical_images_of_both_labels_are_notes(tmp_path):
    folder = gdph_sysucc_folder(tmp_path / "gdph_sysucc")
    shutil.copy(folder / "SYSUCC" / "benign(0).png", folder / "SYSUCC" / "malignant(0).png")
    (found,) = verify(tmp_path).duplicates
    assert found.image_ids == ("gdph_sysucc/benign(0)", "gdph_sysucc/malignant(0)")
    assert found.conflicting


def test_buid_masks_are_found_and_outlines_are_left_out(tmp_path):
    survey = buid.SOURCE.survey(buid_folder(tmp_path))
    assert [(each.name, each.label, each.masks[0].name) for each in survey.records] == [
        ("1 Benign", 0, "1 Benign Mask.tif"),
        ("2 Benign", 0, "2 Benign Mask.tif"),
        ("1 Malignant", 1, "1 Malignant Mask.tif"),
    ]
    assert survey.left_out == {"pictures with the lesion's outline": 3}


def test_buid_suffixes_and_folders_may_be_in_capitals(tmp_path):
    for path in list(buid_folder(tmp_path).rglob("*.*")):
        path.rename(path.with_suffix(path.suffix.upper()))
    (tmp_path / "Benign").rename(tmp_path / "BENIGN")
    assert [each.name for each in buid.SOURCE.read(tmp_path)] == ["1 Benign", "2 Benign", "1 Malignant"]


def test_buid_what_does_not_fit_is_named(tmp_path):
    folder = buid_folder(tmp_path)
    (folder / "Benign" / "2 Benign Mask.tif").unlink()
    (folder / "Malignant" / "1 Malignant Image.bmp").unlink()
    picture(folder / "Malignant" / "9 Benign Image.bmp")
    survey = buid.SOURCE.survey(folder)
    assert survey.items("images_without_mask") == ("Benign/2 Benign Image.bmp",)
    assert survey.items("masks_without_image") == ("Malignant/1 Malignant Mask.tif",)
    assert survey.items("misplaced_files") == ("Malignant/9 Benign Image.bmp",)


def test_buid_one_number_twice_is_named(tmp_path):
    picture(buid_folder(tmp_path) / "Benign" / "1  Benign Image.bmp")
    with pytest.raises(SourceError, match="are both '1 Benign'"):
        buid.SOURCE.read(tmp_path)


@pytest.mark.parametrize("source", ["breast", "bus_uclm"])
def test_half_of_it_is_smaller_and_that_is_said(tmp_path, source):
    {"breast": breast_folder, "bus_uclm": bus_uclm_folder}[source](tmp_path / source)
    (report,) = verify(tmp_path).sources
    assert (report.status, report.errors, report.found.normal) == ("smaller", [], 1)
    assert any(note.startswith("1 normal images, where the official list has") for note in report.notes)


@pytest.mark.parametrize("source", ["breast", "bus_uclm", "buid"])
def test_a_lesion_mask_of_another_size_is_an_error_that_names_it(tmp_path, source):
    makers = {"breast": breast_folder, "bus_uclm": bus_uclm_folder, "buid": buid_folder}
    makers[source](tmp_path / source)
    lost = SOURCES[source].read(tmp_path / source)[0].masks[0]
    mask(lost, size=(9, 8))
    (report,) = verify(tmp_path).sources
    assert any(lost.name in error and ("9 x 8" in error or "another size" in error) for error in report.errors)
    assert report.size_mismatches == [lost.relative_to(tmp_path / source).as_posix()]


def test_half_of_the_images_is_an_error_or_left_out_and_counted(tmp_path):
    makers = {"breast": breast_folder, "bus_uclm": bus_uclm_folder, "gdph_sysucc": gdph_sysucc_folder}
    for source, make in makers.items():
        first = SOURCES[source].read(make(tmp_path / source))[0]
        first.image.unlink()
        with pytest.raises(SourceError, match=rf"lists 1 image\(s\) that are not in(.|\n)*{re.escape(first.name)}"):
            SOURCES[source].read(tmp_path / source)
        reading = incomplete(tmp_path, source)
        assert first.name not in {record.name for record in reading.records}
        assert reading.left_out == {"image not there": 1}


def test_an_id_that_is_listed_twice_is_named(tmp_path):
    table = bus_uclm_folder(tmp_path) / "INFO.csv"
    table.write_text(table.read_text() + "ALWI_001.png;6x5;Benign;No;No;No\n")
    with pytest.raises(SourceError, match=r"row 5: image name 'ALWI_001' was already used by .*row 3"):
        bus_uclm.SOURCE.read(tmp_path)
