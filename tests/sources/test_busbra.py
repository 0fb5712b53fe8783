"""BUS-BRA: patients, scanners, categories and boxes from its table, and errors that name the row."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from projects import SHARED
from tiny_sources import busbra_folder

from bus_mlops.errors import SourceError
from bus_mlops.sources.busbra import SOURCE
from bus_mlops.sources.record import Crop
from bus_mlops.sources.verify import verify


def test_what_the_table_says_of_each_image(tmp_path):
    records = SOURCE.read(busbra_folder(tmp_path))
    assert [(each.name, each.case, each.label) for each in records] == [
        ("bus_0001-l", "1", 0),
        ("bus_0001-r", "1", 0),
        ("bus_0002-s", "2", 1),
    ]
    assert [each.masks[0].name for each in records] == ["mask_0001-l.png", "mask_0001-r.png", "mask_0002-s.png"]
    assert [each.findings.scanner for each in records] == ["GE Logiq 7", "GE Logiq 7", "U-Systems"]
    assert [each.findings.birads for each in records] == ["2", "2", "5"]
    assert records[2].findings.lesion_box == Crop(top=2, left=3, height=4, width=3)


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("[2,2,3,4]", "[2,2,3]", r"row 3: BBOX = '\[2,2,3\]' is no box"),
        ('"2","GE', '"7","GE', "row 2: BI-RADS '7' is no category"),
        ("bus_0002-s", "0002-s", "row 4: ID '0002-s' does not begin with 'bus_'"),
        ("malignant", "unclear", "row 4: label 'unclear'"),
    ],
)
def test_a_row_that_cannot_be_right_is_named(tmp_path, good, bad, complaint):
    table = busbra_folder(tmp_path) / "bus_data.csv"
    table.write_text(table.read_text().replace(good, bad, 1))
    with pytest.raises(SourceError, match=complaint):
        SOURCE.read(tmp_path)


def test_what_a_source_does_not_say_is_empty(tmp_path):
    table = busbra_folder(tmp_path) / "bus_data.csv"
    table.write_text(table.read_text().replace('"5","U-Systems @10-14MHz"', '"",""').replace('"[3,2,3,4]"', '""'))
    findings = SOURCE.read(tmp_path)[2].findings
    assert (findings.scanner, findings.birads, findings.lesion_box) == ("", "", None)


@pytest.mark.skipif(not (SHARED / "data" / "busbra").is_dir(), reason="the images of BUS-BRA are not here")
def test_the_real_images_are_read_and_their_boxes_lie_around_their_masks():
    records = SOURCE.read(SHARED / "data" / "busbra")
    assert (len(records), sum(each.label for each in records), len({each.case for each in records})) == (927, 296, 502)
    for record in records[::60]:
        rows, columns = np.nonzero(np.asarray(Image.open(record.masks[0])))
        box = record.findings.lesion_box
        assert box is not None
        corners = [box.top, box.left, box.top + box.height, box.left + box.width]
        assert corners == pytest.approx([rows.min(), columns.min(), rows.max(), columns.max()], abs=3), record.name


def test_half_of_it_is_smaller_and_that_is_said(tmp_path):
    busbra_folder(tmp_path / "busbra")
    (report,) = verify(tmp_path).sources
    assert (report.title, report.status, report.errors) == ("BUS-BRA", "smaller", [])
    assert report.expected is not None
    assert (report.expected.images, report.expected.cases) == (1875, 1064)
