"""What is answered and what is not, by its tags; where the picture is; what a message may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from ultrasound import HEIGHT, LEFT, PATIENT, TOP, WIDTH, as_bytes, region, ultrasound

pydicom = pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")

from bus_mlops.dicom.reading import OtherContentError, is_dicom, read_image  # noqa: E402
from bus_mlops.dicom.regions import Region  # noqa: E402
from bus_mlops.errors import DicomError  # noqa: E402

EXAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
CHARACTERS = Path(pydicom.__file__).parent / "data" / "charset_files"


def read(image=None, **tags):
    return read_image(as_bytes(ultrasound(**tags) if image is None else image))


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"Modality": "MR"}, r"Ultrasound Image Storage \(MR\)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, r"CT Image Storage \(CT\)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "Modality": "DOC"}, "Encapsulated PDF Storage"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33", "Modality": "SR"}, "Comprehensive SR Storage"),
        ({"SOPClassUID": "1.2.3.4", "Modality": "US"}, "an object of an unknown class"),
        ({"SOPClassUID": None, "Modality": None}, r"an object of an unknown class \(no modality\)"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "US"},
            r"a copy of a screen \(Secondary Capture Image Storage \(US\)\)",
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4", "Modality": "US"},
            r"a copy of a screen .* Send the ultrasound image itself",
        ),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}, r"no ultrasound image, but Secondary Capture"),
        ({"BodyPartExamined": "LIVER"}, "only the breast"),
    ],
)
def test_what_is_no_ultrasound_of_a_breast_is_refused_by_its_tags(tags, kind):
    image = ultrasound(**tags)
    image.file_meta.MediaStorageSOPClassUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    with pytest.raises(OtherContentError, match=kind):
        read(image)


def test_what_is_deflated_is_refused_before_it_is_unpacked():
    image = ultrasound()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    with pytest.raises(
        DicomError, match=r"is deflated: its size is not known before it is read\. Send it uncompressed"
    ):
        read(image)


@pytest.mark.parametrize("part", ["BREAST", "Left Breast", "MAMMA", "", None])
def test_the_breast_is_known_under_its_names(part):
    assert read(BodyPartExamined=part or "").frames == 1


def test_what_an_answer_needs_must_be_there():
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        with pytest.raises(DicomError, match=f"no valid {name}"):
            read(**{name: "../../etc"})
        with pytest.raises(DicomError, match=f"no valid {name}"):
            read(**{name: None})


def test_the_picture_is_where_the_scanner_says_and_as_large():
    (found,) = read().regions
    assert found == Region(TOP, LEFT, HEIGHT, WIDTH, (0.2, 0.1))
    (upward,) = read(SequenceOfUltrasoundRegions=[region(down=-0.02)]).regions
    assert upward.spacing == (0.2, 0.1)
    (whole,) = read(SequenceOfUltrasoundRegions=[]).regions
    assert whole == Region(0, 0, 280, 360, None, declared=False)


@pytest.mark.parametrize("item", [{"units": 4}, {"across": 0}, {"across": 90}, {"down": None}, {"down": float("nan")}])
def test_without_a_credible_calibration_there_are_no_millimetres(item):
    (found,) = read(SequenceOfUltrasoundRegions=[region(**item)]).regions
    assert found.spacing is None


def test_of_several_regions_pictures_count_and_what_is_drawn_over_them_does_not():
    doppler, colour = region(200, 0, 80, 360, spatial_format=3), region(60, 80, 50, 50)
    left, right = region(0, 0, 150, 150), region(0, 160, 160, 200)
    assert len(read(SequenceOfUltrasoundRegions=[doppler, region(), colour]).regions) == 1
    assert [each.left for each in read(SequenceOfUltrasoundRegions=[left, right]).regions] == [160, 0]
    beyond = region(TOP, LEFT, 500, 500)
    (clipped,) = read(SequenceOfUltrasoundRegions=[beyond]).regions
    assert (clipped.height, clipped.width) == (280 - TOP, 360 - LEFT)
    for none in ([doppler], [region(400, 400, 50, 50)], [region(top=0, height=2)]):
        with pytest.raises(DicomError, match="B-mode"):
            read(SequenceOfUltrasoundRegions=none)


def test_files_are_told_by_their_content(tmp_path):
    file = tmp_path / "IM0001"
    file.write_bytes(as_bytes(ultrasound()))
    assert is_dicom(file)
    assert read_image(file).name == str(file)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert not is_dicom(file)
    assert not is_dicom(tmp_path)
    with pytest.raises(DicomError, match="not a DICOM file"):
        read_image(file)
    with pytest.raises(DicomError, match="Check that it is there"):
        read_image(tmp_path / "none")


@pytest.mark.parametrize(
    "name",
    ["rtplan_truncated.dcm", "image_dfl.dcm", "badVR.dcm", "no_meta.dcm", "test-SR.dcm", "dicomdirtests/DICOMDIR"],
)
def test_strange_files_are_refused_by_an_error_of_ours(name):
    with pytest.raises(DicomError):
        read_image(EXAMPLES / name)


def test_every_truncation_of_a_file_is_read_or_refused():
    whole = as_bytes(ultrasound())
    header = len(whole) - len(ultrasound().PixelData)
    from bus_mlops.dicom.pixels import frame_pixels

    for length in [*range(0, header, 37), header, header + 1, len(whole) - 1]:
        with pytest.raises(DicomError):
            frame_pixels(read_image(whole[:length]).dataset, 0)


def test_names_of_all_scripts_are_read_and_no_message_repeats_one(caplog, recwarn):
    for file in sorted(CHARACTERS.glob("*.dcm")):
        with pytest.raises(DicomError) as raised:
            read_image(file)
        assert "^" not in str(raised.value)
    wrong = {"PatientName": "Nobody^Else", "PatientBirthDate": "no date at all", "PatientID": "x" * 80}
    content = as_bytes(ultrasound(Modality="CT", **wrong))
    caplog.clear()
    with pytest.raises(DicomError) as raised:
        read_image(content)
    japanese = read_image(as_bytes(ultrasound(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")))
    assert japanese.dataset.PatientName.ideographic == "山田^太郎"
    everything = " ".join([str(raised.value), caplog.text, *(str(each.message) for each in recwarn.list)])
    assert not {name for name in ("Nobody", PATIENT, "no date", "xxxx") if name in everything}
