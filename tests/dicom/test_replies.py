"""Reports and segmentations, read by highdicom and by a second reader: what they say, and to what they point."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ultrasound import HEIGHT, LEFT, TOP, WIDTH, DarkModel, as_bytes, region, screen, ultrasound

pydicom = pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")
highdicom = pytest.importorskip("highdicom", reason="the extra `dicom` is not installed")

from pydicom.sr.codedict import codes  # noqa: E402

from bus_mlops.dicom.answer import answer  # noqa: E402
from bus_mlops.dicom.files import FileAnswers  # noqa: E402
from bus_mlops.dicom.identity import as_file  # noqa: E402
from bus_mlops.dicom.reading import read_image  # noqa: E402
from bus_mlops.dicom.reply import reply  # noqa: E402

# A dark disc of 60 rows and columns: 12 mm down, 6 mm across.
DISC = np.hypot(*np.mgrid[-100:100, -120:120].astype(float)) <= 30
WHITE = np.full((280, 360), 250, np.uint8)


def lesion(*, inside: bool = True) -> np.ndarray:
    """A screen whose picture is gray but for a black disc."""
    shown = screen()
    shown[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = np.where(DISC & inside, 0, 120)
    return shown


def replied(image, model=None, frames=32):
    """What is answered, as another program reads it."""
    model = model or DarkModel()
    found = answer(model, read_image(as_bytes(image)), frames)
    made = reply(model, found)
    report = pydicom.dcmread(io.BytesIO(as_file(made.report)))
    drawn = None if made.segmentation is None else pydicom.dcmread(io.BytesIO(as_file(made.segmentation)))
    return found, report, drawn


def comments(report) -> str:
    (container,) = (i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375")
    return "\n".join(item.TextValue for item in container.ContentSequence)


def values(group) -> dict[str, float]:
    return {item.name.meaning: float(item.value) for item in group.get_measurements()}


def codes_of(group) -> set[str]:
    return {item.value.meaning for item in group.get_qualitative_evaluations()}


def test_the_report_is_a_measurement_report_of_the_study_with_size_and_probability():
    image = ultrasound(lesion())
    found, report, drawn = replied(image)
    read = highdicom.sr.ComprehensiveSR.from_dataset(report)
    assert read.content[0].ContentTemplateSequence[0].TemplateIdentifier == "1500"
    title = report.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("126000", "DCM")
    assert "RESEARCH USE ONLY" in title.CodeMeaning
    (group,) = read.content.get_planar_roi_measurement_groups()
    measured = values(group)
    assert measured["Probability of cancer"] == pytest.approx(100 * DISC.mean(), abs=0.051)
    assert measured["Long axis"] == pytest.approx(12.2, abs=0.25)
    assert measured["Short axis"] == pytest.approx(6.1, abs=0.15)
    assert {"answered", "benign"} <= codes_of(group)
    assert group.finding_type == codes.SCT.Lesion
    assert "12.2 x 6.1 mm" in comments(report)
    for each in (report, drawn):
        for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "AccessionNumber"):
            assert each[keyword].value == image[keyword].value
        assert each.SeriesInstanceUID != image.SeriesInstanceUID
        assert "RESEARCH USE ONLY" in each.SeriesDescription
    assert found.prediction.mask is not None


def test_the_model_is_among_the_contributing_equipment():
    _, report, drawn = replied(ultrasound(lesion()))
    for each in (report, drawn):
        made = [e for e in each.ContributingEquipmentSequence if e.Manufacturer == "bus-mlops"]
        assert [(e.ManufacturerModelName, e.SoftwareVersions[0], e.DeviceSerialNumber) for e in made] == [
            ("dark", "3", "ab" * 32)
        ]


def test_the_mask_lies_on_the_images_own_pixels():
    image = ultrasound(lesion(), FrameOfReferenceUID="1.2.3")
    _, report, drawn = replied(image)
    read = highdicom.seg.Segmentation.from_dataset(drawn)
    mask = read.get_pixels_by_source_instance([image.SOPInstanceUID], combine_segments=True)[0]
    expected = np.zeros((280, 360), bool)
    expected[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = DISC
    assert (mask.astype(bool) == expected).all()
    (group,) = highdicom.sr.ComprehensiveSR.from_dataset(report).content.get_planar_roi_measurement_groups()
    assert group.referenced_segmentation_frame.referenced_sop_instance_uid == drawn.SOPInstanceUID


def test_what_is_burned_in_outside_the_region_is_not_shown_to_the_model():
    model = DarkModel()
    _, report, _ = replied(ultrasound(), model)
    assert [pixels.shape for pixels in model.seen] == [(HEIGHT, WIDTH)]
    assert "no region" not in comments(report)
    _, report, _ = replied(ultrasound(SequenceOfUltrasoundRegions=[]), model)
    assert model.seen[-1].shape == (280, 360)
    assert "declared no region" in comments(report)


@pytest.mark.parametrize("regions", [[], [region(units=0)]])
def test_without_a_calibration_no_millimetre_is_told(regions):
    found, report, _ = replied(ultrasound(lesion(), SequenceOfUltrasoundRegions=regions, PixelSpacing=["0.1", "0.1"]))
    assert found.chosen.size is None
    (group,) = highdicom.sr.ComprehensiveSR.from_dataset(report).content.get_planar_roi_measurement_groups()
    assert [*values(group)] == ["Probability of cancer"]
    assert "no calibration" in comments(report)


def test_a_clip_is_answered_by_its_highest_frame_with_every_frame_told_and_drawn():
    frames = np.stack([lesion(inside=False), lesion(), lesion(inside=False), lesion()])
    frames[3, TOP : TOP + 60, LEFT : LEFT + WIDTH] = 0
    found, report, drawn = replied(ultrasound(frames, frames=4))
    assert found.chosen.frame == 4
    content = highdicom.sr.ComprehensiveSR.from_dataset(report).content
    groups = [*content.get_planar_roi_measurement_groups(), *content.get_image_measurement_groups()]
    told = sorted(values(group)["Probability of cancer"] for group in groups)
    assert told == pytest.approx(sorted(100 * (look.prediction.probability or 0) for look in found.looks), abs=0.051)
    assert "4 pictures in 4 of 4 frames" in comments(report)
    assert "of frame 4" in comments(report)
    read = highdicom.seg.Segmentation.from_dataset(drawn)
    masks = read.get_pixels_by_source_frame(
        drawn.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID,
        [1, 2, 3, 4],
        assert_missing_frames_are_empty=True,
        combine_segments=True,
    )
    assert [bool(mask.any()) for mask in masks] == [False, True, False, True]
    assert (masks[1][TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].astype(bool) == DISC).all()


def test_of_a_long_clip_frames_evenly_spaced_are_looked_at_and_the_report_says_so():
    found, report, _ = replied(ultrasound(frames=7), frames=3)
    assert [look.frame for look in found.looks] == [1, 4, 7]
    assert "3 pictures in 3 of 7 frames" in comments(report)


def test_a_refused_image_gets_a_report_that_says_why_and_no_number():
    _, report, drawn = replied(ultrasound(WHITE))
    assert drawn is None
    (group,) = highdicom.sr.ComprehensiveSR.from_dataset(report).content.get_image_measurement_groups()
    assert (values(group), codes_of(group)) == ({}, {"refused"})
    assert "REFUSED: the model gives no answer to this image. It is no breast." in comments(report)
    assert "No size" not in comments(report)


def test_a_model_without_masks_draws_none():
    _, report, drawn = replied(ultrasound(lesion()), DarkModel(masks=False))
    assert drawn is None
    assert "draws no lesions" in comments(report)


def test_the_same_answer_has_the_same_identifiers_and_another_package_has_others():
    image, other = ultrasound(lesion()), DarkModel()
    other.digest = "cd" * 32
    first, again, different = (
        [each.SOPInstanceUID for each in replied(image, model)[1:]] for model in (DarkModel(), DarkModel(), other)
    )
    assert first == again
    assert not {*first} & {*different}


def test_names_and_missing_or_invalid_attributes_do_not_hinder_an_answer():
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    for scripts in ("ISO_IR 192", ["", "ISO 2022 IR 87"]):
        _, report, _ = replied(ultrasound(lesion(), SpecificCharacterSet=scripts, PatientName=name))
        assert (report.PatientName, report.SpecificCharacterSet) == (name, "ISO_IR 192")
    gone = dict.fromkeys(
        ("PatientID", "PatientName", "StudyDate", "StudyTime", "StudyID", "Manufacturer", "InstanceNumber")
    )
    _, report, drawn = replied(ultrasound(lesion(), PatientSex="female", PatientBirthDate="unknown", **gone))
    assert (report.PatientSex, report.PatientBirthDate, drawn.PatientID) == ("", "", "")
    private = ultrasound(lesion())
    private.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "secret")
    assert b"secret" not in as_file(replied(private)[1])


def reply_files(kind: str, folder: Path) -> list[Path]:
    """The report, and the segmentation if there is one, written for a reader of another make; the report first."""
    made = {"single": ultrasound(lesion()), "clip": ultrasound(frames=3), "refused": ultrasound(WHITE)}[kind]
    _, report, drawn = replied(made)
    replies = {folder / name: each for name, each in (("sr", report), ("seg", drawn)) if each is not None}
    for path, each in replies.items():
        path.write_bytes(as_file(each))
    return list(replies)


@pytest.mark.parametrize("kind", ["single", "clip", "refused"])
def test_a_second_reader_finds_no_error(tmp_path, kind):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    for path in reply_files(kind, tmp_path):
        checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in checked.stderr + checked.stdout


@pytest.mark.parametrize("kind", ["single", "clip", "refused"])
def test_a_reader_of_another_make_shows_what_was_answered(tmp_path, kind):
    if shutil.which("dsrdump") is None:
        pytest.skip("dcmtk is not installed")
    paths = reply_files(kind, tmp_path)
    for path in paths:
        read = subprocess.run(["dcmdump", "+E", str(path)], capture_output=True, check=False)
        assert read.returncode == 0, read.stderr
    dumped = subprocess.run(["dsrdump", "+Pl", str(paths[0])], capture_output=True, text=True, check=True).stdout
    assert "RESEARCH USE ONLY" in dumped
    assert ("Probability of cancer" in dumped) is (kind != "refused")


def test_a_folder_with_mixed_things_is_answered_once_for_each_image(tmp_path):
    study, out = tmp_path / "study", tmp_path / "out"
    (study / "deep" / "er").mkdir(parents=True)
    image, clip = ultrasound(lesion()), ultrasound(frames=2)
    for path, content in {
        "IM1": as_bytes(image),
        "deep/copy.dcm": as_bytes(image),
        "deep/er/clip": as_bytes(clip),
        "notes.txt": b"hello",
        "ct": as_bytes(ultrasound(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")),
        "half.dcm": as_bytes(ultrasound(SamplesPerPixel=2)),
        ".DS_Store": b"x",
    }.items():
        (study / path).write_bytes(content)
    directory = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests" / "DICOMDIR"
    shutil.copy(directory, study / "DICOMDIR")
    model: Any = DarkModel()
    answers = FileAnswers(model, out=out)
    rows = {Path(row.source).name: row for row in answers.stream_studies([study])}
    assert {name: row.error is None for name, row in rows.items()} == {"IM1": True, "clip": True, "half.dcm": False}
    assert {kind: len(names) for kind, names in answers.skipped.items()} == {
        "no DICOM file": 1,
        "CT Image Storage (CT)": 1,
        "DICOMDIR": 1,
        "copies of images": 1,
    }
    written = sorted(path.name[:3] for path in out.iterdir())
    assert written == ["SEG", "SEG", "SR-", "SR-"]
    again = FileAnswers(model, out=out)
    list(again.stream_studies([study, out]))
    assert sorted(path.name[:3] for path in out.iterdir()) == written
    assert len(again.skipped["Comprehensive SR Storage (SR)"]) == 2
