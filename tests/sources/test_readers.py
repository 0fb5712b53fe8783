"""The table-led readers: every quirk of the sources, and one clear error for everything malformed."""

import re
from pathlib import Path

import pytest
from tiny_sources import HMSS_HEADER, busis_folder, hmss_folder, hmss_row, picture, xlsx

from bus_mlops.config import DataConfig
from bus_mlops.errors import SourceError
from bus_mlops.sources import busi, busis, dataset_b, hmss, thammasat
from bus_mlops.sources.record import Crop, label_conflicts, natural_key
from bus_mlops.sources.registry import read_sources

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"


def test_hmss_reads_mark_text_names_crop_and_label_from_tumor_type_alone(tmp_path):
    rows = [
        hmss_row("2879", "2879", "Malignant"),
        hmss_row("12345-Afbeelding2", "2879", "Malignant"),
        hmss_row("0012-3", "0012-3", "Benign", group="Malignant"),
    ]
    records = hmss.SOURCE.read(hmss_folder(tmp_path, rows))
    assert [record.name for record in records] == ["2879", "12345-Afbeelding2", "0012-3"]
    assert [record.label for record in records] == [1, 1, 0]
    assert [record.case_id for record in records] == ["hmss/2879", "hmss/2879", "hmss/0012-3"]
    assert records[0].crop == Crop(top=1, left=2, height=3, width=4)
    assert records[0].image_id == "hmss/2879"
    assert records[0].masks == ()


def test_hmss_label_conflict_in_a_case_is_kept_and_reported(tmp_path):
    case = "33278-Afbeelding1"
    rows = [hmss_row(case, case, "Benign"), hmss_row("a", case, "Malignant"), hmss_row("b", case, "Malignant")]
    records = hmss.SOURCE.read(hmss_folder(tmp_path, rows))
    (conflict,) = label_conflicts(records)
    assert conflict == (f"hmss/{case}", (f"hmss/{case}",), ("hmss/a", "hmss/b"))


def test_thammasat_crop_is_absolute_and_counts_from_one(tmp_path):
    picture(tmp_path / "imgs" / "Case-1-U-1-1.jpg")
    (tmp_path / "Thammasat.csv").write_text(
        "img url,img name,case id/cover img id,tumor type,crop r1,crop r2,crop col1,crop col2\n"
        "u,Case-1-U-1-1,Case-1,benign,2,5,3,6\n"
    )
    (record,) = thammasat.SOURCE.read(tmp_path)
    assert record.crop == Crop(top=1, left=2, height=3, width=3)
    assert (record.case_id, record.label) == ("thammasat/Case-1", 0)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
@pytest.mark.parametrize("table", ["BUSIS562.csv", "BUSIS.xlsx"])
def test_busis_reads_png_and_bmp_csv_and_xlsx(tmp_path, suffix, table):
    busis_folder(tmp_path, "BM", suffix, table)
    records = busis.SOURCE.read(tmp_path)
    assert [(r.name, r.case, r.label) for r in records] == [("case0001", "case0001", 0), ("case0002", "case0002", 1)]
    assert [r.masks[0].name for r in records] == [f"case0001_GT{suffix}", f"case0002_GT{suffix}"]


@pytest.mark.parametrize("images", ["imgs", "original"])
def test_dataset_b_keeps_zeros_and_skips_the_legend(tmp_path, images):
    rows: list[list[object]] = [
        ["Image", "Type", "Diagnosis", None, "FA", "Fibroadenoma"],
        ["000001", "Benign", "FA", None, None, None],
        ["000004", "Malignant", "IDC", None, None, None],
        [None, None, None, None, "IDC", "Invasive ductal carcinoma"],
    ]
    xlsx(tmp_path / "DatasetB.xlsx", rows)
    for name in ("000001", "000004"):
        picture(tmp_path / images / f"{name}.png")
        picture(tmp_path / "GT" / f"{name}.png")
    records = dataset_b.SOURCE.read(tmp_path)
    assert [(r.image_id, r.label) for r in records] == [("dataset_b/000001", 0), ("dataset_b/000004", 1)]


def test_dataset_b_refuses_a_name_that_became_a_number(tmp_path):
    xlsx(tmp_path / "DatasetB.xlsx", [["Image", "Type"], [1, "Benign"]])
    with pytest.raises(SourceError, match=r"row 2: Image = 1 is stored as int"):
        dataset_b.SOURCE.read(tmp_path)


@pytest.mark.parametrize("below", ["", "Dataset_BUSI_with_GT"])
def test_busi_reads_both_layouts_several_masks_and_ignores_normal(tmp_path, below):
    root = tmp_path / below
    for name in ("benign (10)", "benign (2)"):
        picture(root / "benign" / f"{name}.png")
        picture(root / "benign" / f"{name}_mask.png")
    picture(root / "benign" / "benign (2)_mask_1.png")
    picture(root / "benign" / "benign (2)_mask_2.png")
    picture(root / "malignant" / "malignant (1).png")
    picture(root / "malignant" / "malignant (1)_mask.png")
    picture(root / "normal" / "normal (1).png")
    records = busi.SOURCE.read(tmp_path)
    assert [r.name for r in records] == ["benign (2)", "benign (10)", "malignant (1)"]
    names = [path.name for path in records[0].masks]
    assert names == ["benign (2)_mask.png", "benign (2)_mask_1.png", "benign (2)_mask_2.png"]
    assert [r.label for r in records] == [0, 0, 1]
    assert records[0].case_id == records[0].image_id == "busi/benign (2)"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["benign/benign (1).png"], r"benign \(1\).png: has no mask"),
        (["benign/benign (1)_mask.png"], r"benign \(1\)_mask.png: is a mask without its image"),
        (["benign/malignant (1).png"], "does not begin with 'benign'"),
        (["benign/benign (1).png", "benign/benign (1).bmp"], "holds both"),
        (["Dataset_BUSI_with_GT/benign/benign (1).png", "benign/benign (1).png"], "Keep one copy"),
        ([], "holds no images"),
    ],
)
def test_busi_names_what_is_wrong(tmp_path, files, message):
    for word in ("benign", "malignant"):
        (tmp_path / word).mkdir()
    for file in files:
        picture(tmp_path / file)
    with pytest.raises(SourceError, match=message):
        busi.SOURCE.read(tmp_path)


def test_missing_images_are_all_listed_with_their_rows(tmp_path):
    hmss_folder(tmp_path, [hmss_row("1", "1", "Benign"), hmss_row("2", "2", "Benign"), hmss_row("3", "3", "Benign")])
    (tmp_path / "imgs" / "1.jpg").unlink()
    (tmp_path / "imgs" / "3.jpg").unlink()
    with pytest.raises(SourceError, match=r"lists 2 image\(s\).*row 2 names '1'.*row 4 names '3'.*take the rows out"):
        hmss.SOURCE.read(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (hmss_row("1", "1", "benignant"), "row 2: label 'benignant' is neither"),
        (hmss_row("1", "", "Benign"), "row 2: column 'case id/cover img id' is empty"),
        (hmss_row("1", "1", "Benign", crop="1,x,2,4"), "row 2: crop r2 = 'x' is not a whole number"),
        (hmss_row("1", "1", "Benign", crop="1,,2,4"), "row 2: crop r2 = '' is not a whole number"),
        (hmss_row("1", "1", "Benign", crop="1,0,2,4"), "no rectangle"),
        (hmss_row("1", "1", "Benign", crop="-1,3,2,4"), "no rectangle"),
        (hmss_row("1", "1", "Benign", crop="1,nan,2,4"), "not a whole number"),
        (hmss_row("1", "1", "Benign", crop="1,1e999,2,4"), "not a whole number"),
    ],
)
def test_bad_values_name_row_and_value(tmp_path, row, message):
    with pytest.raises(SourceError, match=message):
        hmss.SOURCE.read(hmss_folder(tmp_path, [row]))


def test_a_name_may_not_leave_its_folder(tmp_path):
    picture(tmp_path / "imgs" / "1.jpg")
    (tmp_path / "HMSS.csv").write_text(f"{HMSS_HEADER}\n{hmss_row('../1', '1', 'Benign')}\n")
    with pytest.raises(SourceError, match="plain name without a path"):
        hmss.SOURCE.read(tmp_path)


def test_duplicate_name_missing_column_wrong_encoding_and_empty_table(tmp_path):
    with pytest.raises(SourceError, match=r"row 3: image name '1' was already used by .*row 2"):
        hmss.SOURCE.read(hmss_folder(tmp_path / "a", [hmss_row("1", "1", "Benign")] * 2))
    header = HMSS_HEADER.replace("tumor type", "kind")
    with pytest.raises(SourceError, match="column 'tumor type' is missing"):
        hmss.SOURCE.read(hmss_folder(tmp_path / "b", [hmss_row("1", "1", "Benign")], header=header))
    with pytest.raises(SourceError, match=r"not UTF-8 \(byte \d+ is 0xe9\)"):
        hmss.SOURCE.read(hmss_folder(tmp_path / "c", [hmss_row("1", "1", "Benign", group="Bénin")], "latin-1"))
    with pytest.raises(SourceError, match="no rows"):
        hmss.SOURCE.read(hmss_folder(tmp_path / "d", []))
    (tmp_path / "d" / "HMSS.csv").write_bytes(b"")
    with pytest.raises(SourceError, match="is empty"):
        hmss.SOURCE.read(tmp_path / "d")
    (tmp_path / "e").mkdir()
    with pytest.raises(SourceError, match=r"HMSS\.csv not found in"):
        hmss.SOURCE.read(tmp_path / "e")
    (tmp_path / "e" / "DatasetB.xlsx").write_bytes(b"PK but no zip")
    with pytest.raises(SourceError, match=r"not a readable \.xlsx"):
        dataset_b.SOURCE.read(tmp_path / "e")


def test_listed_sources_must_exist_and_all_reads_those_that_do(tmp_path):
    picture(tmp_path / "busi" / "benign" / "benign (1).png")
    picture(tmp_path / "busi" / "benign" / "benign (1)_mask.png")
    (tmp_path / "busi" / "malignant").mkdir()
    records = read_sources(DataConfig(kind="real", root=tmp_path, sources="all"))
    assert [record.image_id for record in records] == ["busi/benign (1)"]
    with pytest.raises(SourceError, match=re.escape(f"{tmp_path / 'hmss'} not found") + r".*take it off the list"):
        read_sources(DataConfig(kind="real", root=tmp_path, sources=("busi", "hmss")))
    with pytest.raises(SourceError, match="holds none of the sources"):
        read_sources(DataConfig(kind="real", root=tmp_path / "empty", sources="all"))


def test_natural_order():
    assert sorted(["a (10)", "a (9)", "b", "a"], key=natural_key) == ["a", "a (9)", "a (10)", "b"]


@pytest.mark.skipif(not (REAL / "busi").is_dir(), reason="the real BUSI images are not beside the project")
def test_real_busi_has_the_official_counts():
    records = read_sources(DataConfig(kind="real", root=REAL, sources=("busi",)))
    assert len(records) == 647
    assert sum(record.label for record in records) == 210
    several = [record for record in records if len(record.masks) > 1]
    assert (len(several), sum(record.label for record in several)) == (17, 1)
    assert max(len(record.masks) for record in records) == 3
