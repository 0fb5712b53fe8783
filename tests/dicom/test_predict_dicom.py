"""`bus-mlops predict` with DICOM: beside other pictures, with masks, in DICOM again, and without the extra."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from ultrasound import as_bytes, screen, ultrasound

pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")

from bus_mlops.cli.consumer import predict
from bus_mlops.dicom import libraries
from bus_mlops.errors import DicomError

app = typer.Typer()
app.command()(predict)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def study(tmp_path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "IM1.dcm").write_bytes(as_bytes(ultrasound(SequenceOfUltrasoundRegions=[])))
    (folder / "clip.dcm").write_bytes(as_bytes(ultrasound(frames=3)))
    Image.fromarray(screen()).save(folder / "same.png")
    return folder


def test_a_dicom_image_is_answered_as_the_same_pixels_in_a_png(study, package_folder, tmp_path):
    done = run(study, "--model", package_folder, "--json", "--mask-dir", tmp_path / "masks")
    assert done.exit_code == 0, done.output
    rows = {Path(row["file"]).name: row for row in json.loads(done.stdout)}
    assert rows["IM1.dcm"]["probability"] == pytest.approx(rows["same.png"]["probability"], abs=1e-6)
    assert rows["same.png"]["dicom"] is None
    told = rows["clip.dcm"]["dicom"]
    assert [picture["frame"] for picture in told["pictures"]] == [1, 2, 3]
    assert rows["clip.dcm"]["probability"] == max(picture["probability"] for picture in told["pictures"])
    with Image.open(tmp_path / "masks" / "clip_mask.png") as mask:
        assert mask.size == (360, 280)


def test_a_study_is_answered_in_dicom_and_what_else_there_is_is_counted(study, package_folder, tmp_path):
    out = tmp_path / "out"
    done = run(study, "--model", package_folder, "--dicom-out", out)
    assert done.exit_code == 0, done.output
    assert "1 no DICOM file: same.png" in done.stderr
    assert len(list(out.glob("SR-*.dcm"))) == 2
    (row, _) = json.loads(run(study, "--model", package_folder, "--dicom-out", out, "--json").stdout)
    assert Path(row["dicom"]["sr"]).parent == out
    assert len(list(out.glob("SR-*.dcm"))) == 2


def test_what_holds_no_ultrasound_and_a_receiver_without_answers_are_errors(study, package_folder, tmp_path):
    (empty := tmp_path / "empty").mkdir()
    assert isinstance(run(empty, "--model", package_folder, "--dicom-out", tmp_path / "out").exception, DicomError)
    assert isinstance(run(study, "--model", package_folder, "--store", "A@b:1").exception, DicomError)
    masks = run(study, "--model", package_folder, "--dicom-out", tmp_path / "out", "--mask-dir", tmp_path / "masks")
    assert isinstance(masks.exception, DicomError)


def test_without_the_extra_it_says_what_to_install_and_other_images_are_answered(study, package_folder, monkeypatch):
    monkeypatch.setattr(libraries, "_LIBRARIES", ("pydicom", "a_library_that_nobody_has"))
    done = run(study, "--model", package_folder, "--json")
    assert done.exit_code == 1
    rows = {Path(row["file"]).name: row for row in json.loads(done.stdout)}
    assert "pip install 'bus-mlops[dicom]'" in rows["IM1.dcm"]["error"]
    assert rows["same.png"]["error"] is None
    done = run(study, "--model", package_folder, "--dicom-out", "out")
    assert "pip install 'bus-mlops[dicom]'" in str(done.exception)
