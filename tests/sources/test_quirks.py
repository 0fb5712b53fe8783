"""The sources' quirks from folder to pixels: each has a test here, in test_readers.py or in tests/dataset."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_sources import (
    HMSS_HEADER,
    busi_folder,
    busis_folder,
    dataset_b_folder,
    hmss_folder,
    hmss_row,
    mask,
    picture,
    thammasat_folder,
)

from bus_mlops.config import DataConfig
from bus_mlops.dataset.convert import load
from bus_mlops.errors import ConfigError, SourceError
from bus_mlops.sources import busi, busis, dataset_b, hmss, thammasat
from bus_mlops.sources.phantoms.write import write_phantoms
from bus_mlops.sources.record import Crop, Record
from bus_mlops.sources.registry import SOURCES, by_name, read_each, read_sources

PAPER = [SOURCES[name] for name in ("hmss", "busi", "busis", "thammasat", "dataset_b")]


def real(root: Path) -> DataConfig:
    return DataConfig(kind="real", root=root, sources="all")


def test_official_counts_are_those_of_the_corrected_table_2():
    official = [source.official for source in PAPER if source.official]
    assert len(official) == 5
    assert sum(each.images for each in official) == 3641
    assert (sum(each.benign for each in official), sum(each.malignant for each in official)) == (1818, 1823)
    assert sum(each.cases or 0 for each in official) == 2102
    assert sum(each.with_mask for each in official) == 1372
    multitask = [SOURCES[name].official for name in ("busi", "busis")]
    assert sum(each.images for each in multitask if each) == 1209
    assert (sum(each.benign for each in multitask if each), sum(each.malignant for each in multitask if each)) == (
        743,
        466,
    )
    assert {source.name for source in PAPER if not source.has_masks} == {"hmss", "thammasat"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_hmss_with_and_without_byte_order_mark(tmp_path, encoding):
    rows = [hmss_row("2879", "2879", "Malignant", group="Bénin")]
    (record,) = hmss.SOURCE.read(hmss_folder(tmp_path, rows, encoding))
    assert (record.name, record.label) == ("2879", 1)


def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path):
    table = busis_folder(tmp_path) / "BUSIS562.csv"  # "img name" comes first
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert len(busis.SOURCE.read(tmp_path)) == 2


def test_hmss_names_of_all_three_kinds_stay_text(tmp_path):
    names = ["2879", "12345-Afbeelding2", "2801-2", "007"]
    records = hmss.SOURCE.read(hmss_folder(tmp_path, [hmss_row(name, name, "Benign") for name in names]))
    assert [record.name for record in records] == names


def test_hmss_group_and_note_do_not_change_the_label(tmp_path):
    rows = [
        hmss_row("1", "1", "Benign", group="Malignant"),
        hmss_row("2", "2", "Malignant", group="Benign", note="changed"),
        hmss_row("3", "3", "Malignant", group="Malignant", note="changed"),
    ]
    assert [record.label for record in hmss.SOURCE.read(hmss_folder(tmp_path, rows))] == [0, 1, 1]


def test_hmss_descriptions_repeat_and_are_no_case(tmp_path):
    rows = [hmss_row(str(n), str(n), "Benign") for n in range(3)]
    assert len({row.split('"')[1] for row in rows}) == 1
    records = hmss.SOURCE.read(hmss_folder(tmp_path, rows))
    assert [record.case_id for record in records] == ["hmss/0", "hmss/1", "hmss/2"]


def test_hmss_case_may_have_fifteen_images(tmp_path):
    rows = [hmss_row(str(n), "0", "Benign") for n in range(15)]
    assert {record.case_id for record in hmss.SOURCE.read(hmss_folder(tmp_path, rows))} == {"hmss/0"}


def test_thammasat_names_and_cases_of_one_to_three_images(tmp_path):
    rows = [
        "u,Case-1-U-1-1,Case-1,benign,1,5,1,6",
        "u,Case-103-U2,Case-103,malignant,1,5,1,6",
        "u,Case-103-U3,Case-103,malignant,1,5,1,6",
        "u,Case-103-U1,Case-103,malignant,1,5,1,6",
    ]
    records = thammasat.SOURCE.read(thammasat_folder(tmp_path, rows))
    assert Counter(r.case_id for r in records) == {"thammasat/Case-1": 1, "thammasat/Case-103": 3}
    assert [record.label for record in records] == [0, 1, 1, 1]


def test_the_two_crop_conventions_cut_the_same_rectangle(tmp_path):
    box = Crop(top=2, left=3, height=4, width=5)
    as_size = f"{box.top},{box.height},{box.left},{box.width}"
    as_place = f"{box.top + 1},{box.top + box.height + 1},{box.left + 1},{box.left + box.width + 1}"
    one = hmss.SOURCE.read(hmss_folder(tmp_path / "h", [hmss_row("1", "1", "Benign", crop=as_size)]))[0]
    other = thammasat.SOURCE.read(thammasat_folder(tmp_path / "t", [f"u,Case-1-U1,Case-1,benign,{as_place}"]))[0]
    assert one.crop == other.crop == box
    whole = np.asarray(Image.open(one.image))
    assert np.array_equal(load(one, "gray")[0], whole[2:6, 3:8])


def test_busis_ground_truth_may_be_named_with_its_suffix(tmp_path):
    busis_folder(tmp_path, "BM")
    text = (tmp_path / "BUSIS562.csv").read_text()
    (tmp_path / "BUSIS562.csv").write_text(text.replace("_GT,", "_GT.png,"))
    assert [record.masks[0].name for record in busis.SOURCE.read(tmp_path)] == ["case0001_GT.png", "case0002_GT.png"]


def test_busis_bitmaps_give_the_same_pixels_as_png(tmp_path):
    one = busis.SOURCE.read(busis_folder(tmp_path / "png", "BM", ".png"))
    other = busis.SOURCE.read(busis_folder(tmp_path / "bmp", "BM", ".bmp", "BUSIS.xlsx"))
    for a, b in zip(one, other, strict=True):
        (image_a, mask_a), (image_b, mask_b) = load(a, "gray"), load(b, "gray")
        assert mask_a is not None
        assert mask_b is not None
        assert np.array_equal(image_a, image_b)
        assert np.array_equal(mask_a, mask_b)


def test_dataset_b_of_its_owner_and_of_the_benchmark_are_the_same(tmp_path):
    names = [f"{number:06d}" for number in (1, 2, 7, 163)]  # with gaps
    owner = dataset_b.SOURCE.read(dataset_b_folder(tmp_path / "o", names, "original"))
    site = dataset_b.SOURCE.read(dataset_b_folder(tmp_path / "s", names, "imgs"))
    assert [(r.image_id, r.label) for r in owner] == [(r.image_id, r.label) for r in site]
    assert [record.name for record in owner] == names


def test_dataset_b_and_hmss_names_do_not_collide(tmp_path):
    dataset_b_folder(tmp_path / "dataset_b", ["000012", "002879"])
    hmss_folder(tmp_path / "hmss", [hmss_row("12", "12", "Benign"), hmss_row("2879", "2879", "Malignant")])
    ids = [record.image_id for record in read_sources(real(tmp_path))]
    assert ids == ["dataset_b/000012", "dataset_b/002879", "hmss/12", "hmss/2879"]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
def test_busi_masks_of_every_mode_are_the_same_mask(tmp_path, mode):
    folder = busi_folder(tmp_path, benign=1, malignant=0)
    mask(folder / "benign" / "benign (1)_mask.png", mode=mode)
    (record,) = busi.SOURCE.read(folder)
    _, pixels = load(record, "gray")
    assert pixels is not None
    assert pixels.tolist() == [[True] * 3 + [False] * 3] * 5


def test_busi_three_masks_that_overlap_do_not_wrap(tmp_path):
    folder = busi_folder(tmp_path, benign=1, malignant=0)
    for number in (1, 2):  # 255 + 255 + 255 in 8 bits is 253, and 255 + 255 + 1 more would be 255 again
        mask(folder / "benign" / f"benign (1)_mask_{number}.png")
    (record,) = busi.SOURCE.read(folder)
    assert len(record.masks) == 3
    _, pixels = load(record, "gray")
    assert pixels is not None
    assert pixels.sum() == 15


def test_busi_coloured_overlays_are_kept_in_colour_and_their_luma_in_gray(tmp_path):
    folder = busi_folder(tmp_path, benign=1, malignant=0)
    pixels = np.full((5, 6, 3), 40, dtype=np.uint8)
    pixels[2, 1:5] = (255, 255, 0)  # a calliper's yellow line
    Image.fromarray(pixels).save(folder / "benign" / "benign (1).png")
    (record,) = busi.SOURCE.read(folder)
    assert np.array_equal(load(record, "rgb")[0], pixels)
    gray = load(record, "gray")[0]
    assert gray[0, 0] == 40
    assert gray[2, 2] == round(255 * 0.299 + 255 * 0.587)


def test_busi_leaves_out_normal_also_below_its_own_folder(tmp_path):
    records = busi.SOURCE.read(busi_folder(tmp_path, 2, 1, "Dataset_BUSI_with_GT"))
    assert [record.name for record in records] == ["benign (1)", "benign (2)", "malignant (1)"]
    assert len({record.case_id for record in records}) == 3


def test_ids_are_unique_over_all_sources(tmp_path):
    records = read_sources(real(five_sources(tmp_path)))
    assert len({record.image_id for record in records}) == len(records) == 10
    assert all(record.image_id.startswith(f"{record.source}/") for record in records)
    assert all(record.case_id.startswith(f"{record.source}/") for record in records)


def test_a_module_copied_and_half_renamed_is_noticed(tmp_path):
    busis_folder(tmp_path)
    with pytest.raises(SourceError, match=r"the module of 'minerva' yields records of 'busis'"):
        dataclasses.replace(SOURCES["busis"], name="minerva").survey(tmp_path)
    with pytest.raises(SourceError, match=r"two modules .* call their source 'busis'"):
        by_name([SOURCES["busis"], dataclasses.replace(SOURCES["busis"], title="Copy")])
    with pytest.raises(SourceError, match="'Dataset-C' must be lower-case letters"):
        dataclasses.replace(SOURCES["busis"], name="Dataset-C")


def test_no_phantoms_of_a_source_without_a_plan(tmp_path, demo):
    images = {**demo.phantom.images, "other": 3}
    config = demo.model_copy(update={"phantom": demo.phantom.model_copy(update={"images": images})})
    with pytest.raises(ConfigError, match=r"phantom\.images\.other is 3, but phantoms are drawn for hmss"):
        write_phantoms(config, tmp_path / "phantom")


SEED_ROWS = [hmss_row("1", "1", "Benign"), hmss_row("2", "1", "Malignant", note="changed")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=80), place=st.floats(0, 1), cut=st.integers(0, 40))
def test_fuzzed_tables_raise_nothing_but_our_own_error(tmp_path, noise, place, cut):
    folder = tmp_path / "hmss"
    if not folder.exists():
        hmss_folder(folder, SEED_ROWS)
    table = "\n".join([HMSS_HEADER, *SEED_ROWS]).encode()
    at = int(place * len(table))
    (folder / "HMSS.csv").write_bytes(table[:at] + noise + table[at + cut :])
    names, complaint = outcome(hmss.SOURCE.read, folder)
    assert "HMSS.csv" in complaint or set(names) <= {"1", "2"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_workbooks_raise_nothing_but_our_own_error(tmp_path, data):
    folder = tmp_path / "dataset_b"
    if not folder.exists():
        dataset_b_folder(folder)
        (folder / "whole").write_bytes((folder / "DatasetB.xlsx").read_bytes())
    book = bytearray((folder / "whole").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(book) - 1), min_size=1, max_size=6)):
        book[place] = data.draw(st.integers(0, 255))
    (folder / "DatasetB.xlsx").write_bytes(bytes(book))
    names, complaint = outcome(dataset_b.SOURCE.read, folder)
    assert "DatasetB.xlsx" in complaint or set(names) <= {"000001", "000004"}


def outcome(read: Callable[[Path], list[Record]], folder: Path) -> tuple[list[str], str]:
    """The names that a reader finds, or its complaint; any other exception is a failure of the test."""
    try:
        return [record.name for record in read(folder)], ""
    except SourceError as error:
        return [], str(error)


def five_sources(root: Path) -> Path:
    hmss_folder(root / "hmss", SEED_ROWS)
    busi_folder(root / "busi", 1, 1)
    busis_folder(root / "busis")
    thammasat_folder(root / "thammasat", [f"u,Case-{n}-U1,Case-{n},benign,1,5,1,6" for n in (1, 2)])
    dataset_b_folder(root / "dataset_b")
    picture(root / "busi" / "normal" / "normal (2).png")
    return root


def what_is_there(root: Path) -> DataConfig:
    return DataConfig(kind="real", root=root, sources="all", sources_incomplete="report")


def test_a_source_of_which_files_are_missing_is_read_as_far_as_it_is_there(tmp_path):
    busis_folder(tmp_path / "busis", labels="BMBMB")
    (tmp_path / "busis" / "imgs" / "case0001.png").unlink()
    (tmp_path / "busis" / "GT" / "case0001_GT.png").unlink()
    (tmp_path / "busis" / "imgs" / "case0002.png").unlink()
    (tmp_path / "busis" / "GT" / "case0003_GT.png").unlink()
    with pytest.raises(SourceError, match=r"set data\.sources_incomplete to report"):
        read_sources(DataConfig(kind="real", root=tmp_path, sources="all"))
    reading = read_each(what_is_there(tmp_path))["busis"]
    assert [record.name for record in reading.records] == ["case0004", "case0005"]
    assert all(record.masks for record in reading.records)
    assert reading.left_out == {"image not there": 2, "mask not there": 1}


def test_what_is_wrong_stops_a_source_that_is_incomplete_as_well(tmp_path):
    folder = busi_folder(tmp_path / "busi", benign=3, malignant=1)
    (folder / "benign" / "benign (2).png").unlink()
    config = what_is_there(tmp_path)
    assert read_each(config)["busi"].left_out == {"image not there": 1}
    picture(folder / "benign" / "malignant (7).png")
    with pytest.raises(SourceError, match=r"malignant \(7\)\.png: does not begin with 'benign'"):
        read_each(config)
    with pytest.raises(SourceError, match=r"malignant \(7\)") as raised:
        read_sources(DataConfig(kind="real", root=tmp_path, sources=("busi",)))
    assert "sources_incomplete" not in str(raised.value)  # it would not help


def test_a_source_of_which_nothing_is_there_is_an_error(tmp_path):
    folder = busis_folder(tmp_path / "busis", labels="BM")
    for path in (folder / "imgs").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="holds none of the images that it should"):
        read_each(what_is_there(tmp_path))
