"""`bus-mlops predict`: table, JSON, masks, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from tiny_package import speckle, write_refusing_package
from typer.testing import CliRunner

from bus_mlops.cli.consumer import predict
from bus_mlops.cli.predictions import expand
from bus_mlops.consumer.client import load_model
from bus_mlops.errors import ImageError, RegistryError

ROOT = Path(__file__).parents[2]
app = typer.Typer()
app.command()(predict)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_json_is_all_of_standard_output(tiny_registry, scans):
    done = run(*scans, "--model", "models:/tiny-phantom@champion", "--tracking-uri", tiny_registry.uri, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    expected = load_model("models:/tiny-phantom/2", tiny_registry.uri).predict(scans)
    assert [row["probability"] for row in rows] == [row.probability for row in expected]
    assert [row["label"] for row in rows] == [row.label for row in expected]
    assert {(row["model"], row["version"], row["threshold"]) for row in rows} == {("tiny-phantom", "2", 0.4)}
    assert {row["error"] for row in rows} == {None}
    (sentence,) = {row["standing"]["sentence"] for row in rows}
    assert sentence == (
        "Passed the gate; no decision is known. UNEXPLAINED: the alias champion points to version 2, and no decision "
        "on record set it. UNSIGNED: who made it is not known."
    )


def test_a_model_that_the_gate_refused_says_so(tiny_registry, scans):
    """The package was written before the rule that refused it had anything to judge."""
    refused = ["--model", "models:/tiny-phantom/1", "--tracking-uri", tiny_registry.uri]
    assert "REFUSED by the gate; no decision is known" in run(scans[0], *refused).stdout
    (row,) = json.loads(run(scans[0], *refused, "--json").stdout)
    assert (row["standing"]["gate"], row["standing"]["state"]) == ("refused", "undecided")


def test_table_says_what_it_must(package_folder, scans, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = run(*scans, "--model", package_folder)
    assert done.exit_code == 0, done.output
    row = load_model(package_folder).predict(scans[:1])[0]
    line = next(line for line in done.stdout.splitlines() if "gray.png" in line)
    for value in (f"{row.probability:.3f}", row.label, f"{row.spread:.3f}"):
        assert value in line
    assert f"malignant from a probability of {row.threshold:.3f} on" in done.stdout
    assert "Research use only" in done.stdout
    assert "synthetic" in done.stdout


def test_what_is_refused_and_what_is_uncertain_is_said_with_its_reasons(package_folder, scans, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    package = write_refusing_package(tmp_path / "package", package_folder)
    white = tmp_path / "white.png"
    picture = speckle(60, 80)
    picture[20:] = 255
    Image.fromarray(picture).save(white)
    uncertain, refused = load_model(package).predict([scans[0], white])
    assert [uncertain.status, refused.status] == ["uncertain", "refused"]
    rows = json.loads(run(scans[0], white, "--model", package, "--json").stdout)
    for row, expected in zip(rows, (uncertain, refused), strict=True):
        for name in ("status", "probability", "oddness", "triage"):
            assert row[name] == getattr(expected, name)
        assert tuple(row["reasons"]) == expected.reasons
    table = run(scans[0], white, "--model", package).stdout
    told = " ".join(table.split())
    assert all(reason in told for reason in (*uncertain.reasons, *refused.reasons))
    assert "refused" in next(line for line in table.splitlines() if "white.png" in line)
    assert "uncertain" in next(line for line in table.splitlines() if scans[0].name in line)


def test_a_name_is_not_folded_where_a_program_reads(package_folder, scans, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    long = Path(shutil.copy(scans[0], tmp_path / f"{'scan' * 40}.png"))
    assert f" {long} " in run(long, "--model", package_folder).stdout


def test_a_broken_image_fails_the_command_but_not_the_others(package_folder, scans, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nonsense")
    done = run(scans[0], broken, scans[1], "--model", package_folder, "--json")
    assert done.exit_code == 1
    rows = json.loads(done.stdout)
    assert [row["probability"] is None for row in rows] == [False, True, False]
    assert "broken.png" in rows[1]["error"]
    done = run(scans[0], broken, "--model", package_folder)
    assert done.exit_code == 1
    assert "no answer" in done.stdout
    assert "1 of 2 images failed" in done.stderr


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="rights cannot be given up here (setpriv of util-linux)")
def test_an_image_that_may_not_be_read_fails_alone(package_folder, scans, tmp_path):
    """Typer looks beforehand unless it is told not to, and refused all of them."""
    locked = shutil.copy(scans[0], tmp_path / "locked.png")
    locked.chmod(0)
    lesser = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if not os.geteuid() else []
    program = [sys.executable, "-c", "from bus_mlops.cli import main; main()"]
    arguments = ["predict", scans[0], locked, "--model", package_folder, "--json"]
    done = subprocess.run([*lesser, *program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    rows = json.loads(done.stdout)
    assert [row["probability"] is None for row in rows] == [False, True]
    assert "locked.png cannot be read: Permission denied" in rows[1]["error"]


def test_folder_is_expanded(package_folder, scans):
    (scans[0].parent / "notes.txt").write_text("not an image")
    done = run(scans[0].parent, "--model", package_folder, "--json")
    assert [Path(row["file"]).name for row in json.loads(done.stdout)] == sorted(p.name for p in scans)


def test_folder_without_images_is_an_error(package_folder, tmp_path):
    done = run(tmp_path, "--model", package_folder)
    assert isinstance(done.exception, ImageError)
    assert str(tmp_path) in str(done.exception)


def test_masks_are_written_and_never_replaced_silently(package_folder, scans, tmp_path):
    folder = tmp_path / "masks"
    arguments = (*scans, "--model", package_folder, "--mask-dir", folder, "--json")
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    expected = load_model(package_folder).predict(scans, masks=True)
    for row, scan, reference in zip(json.loads(done.stdout), scans, expected, strict=True):
        assert Path(row["mask"]) == folder / f"{scan.stem}_mask.png"
        with Image.open(row["mask"]) as mask, Image.open(scan) as image:
            assert mask.size == image.size
            assert reference.mask is not None
            np.testing.assert_array_equal(np.asarray(mask), reference.mask * 255)
    assert run(*arguments).exit_code == 0  # the same content again is no conflict

    other = folder / "gray_mask.png"
    other.write_bytes(b"somebody's work")
    done = run(*arguments)
    assert done.exit_code == 1
    rows = json.loads(done.stdout)
    assert "--force" in rows[0]["error"]
    assert rows[0]["probability"] == expected[0].probability
    assert other.read_bytes() == b"somebody's work"
    assert run(*arguments, "--force").exit_code == 0
    assert other.read_bytes() != b"somebody's work"
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{p.stem}_mask.png" for p in scans)


def test_two_images_for_one_mask_file_are_refused_before_predicting(package_folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(speckle(40, 40)).save(tmp_path / name / "scan.png")
    masks = tmp_path / "masks"
    done = run(tmp_path / "a", tmp_path / "b", "--model", package_folder, "--mask-dir", masks)
    assert isinstance(done.exception, ImageError)
    assert not masks.exists()


def test_changed_model_is_refused(package_folder, scans, tmp_path):
    copy = Path(shutil.copytree(package_folder, tmp_path / "copy"))
    with (copy / "members/fold_1.onnx").open("ab") as stream:
        stream.write(b"x")
    done = run(scans[0], "--model", copy)
    assert isinstance(done.exception, RegistryError)
    assert "fold_1.onnx was changed" in str(done.exception)
    assert done.stdout == ""


@pytest.mark.parametrize("store", [True, False])
def test_a_cold_start_imports_nothing_that_trains(package_folder, tiny_registry, scans, store, tmp_path):
    """A new process answers and has imported neither TensorFlow nor, for a folder, MLflow."""
    code = (
        "import sys, typer\nfrom bus_mlops.cli.consumer import predict\n"
        "import atexit\natexit.register(lambda: print(sorted({'tensorflow', 'keras', 'sklearn', 'mlflow'} "
        "& set(sys.modules)), file=sys.stderr))\ntyper.run(predict)"
    )
    model = ["models:/tiny-phantom@champion", "--tracking-uri", tiny_registry.uri] if store else [package_folder]
    done = subprocess.run(
        [sys.executable, "-c", code, str(scans[0]), "--json", "--model", *map(str, model)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == ("['mlflow']" if store else "[]")


def test_names_that_are_no_utf_8_are_escaped_and_no_row_is_lost(package_folder, scans, tmp_path):
    scan, broken = (tmp_path / os.fsdecode(name) for name in (b"gr\xfcn.png", b"kapu\xdf.png"))
    shutil.copy(scans[0], scan)
    broken.write_bytes(b"nonsense")
    code = "from bus_mlops.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", tmp_path, "--model", package_folder, "--mask-dir", tmp_path / "m"]
    for encoding in ("utf-8:strict", "ascii:strict"):
        environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "300", "PYTHONPATH": str(ROOT)}
        table = subprocess.run(command, env=environment, capture_output=True, cwd=tmp_path)
        assert table.returncode == 1
        assert b"gr\\xfcn.png" in table.stdout
        assert b"kapu\\xdf.png is not an image" in table.stderr
        done = subprocess.run([*command, "--json", "--force"], env=environment, capture_output=True, cwd=tmp_path)
        good, bad = json.loads(done.stdout)
        assert (good["file"], good["mask"]) == (f"{tmp_path}/gr\\xfcn.png", f"{tmp_path}/m/gr\\xfcn_mask.png")
        assert good["probability"] is not None
        assert bad["error"].startswith(f"{tmp_path}/kapu\\xdf.png is not an image")
    assert (tmp_path / "m" / os.fsdecode(b"gr\xfcn_mask.png")).is_file()


def test_litter_and_masks_in_a_folder_are_skipped_and_counted(tmp_path, capsys):
    good = ["a.png", "b.JPG", "scan 2.jfif", "c.dcm", "mask.png", "x_gt.png"]
    masks = ["a_mask.png", "a_mask_1.png", "b-GT.png", "mask_b.png", "gone_mask.png", "scan 2 segmentation.png"]
    litter = ["._a.png", "Thumbs.db", ".DS_Store", "desktop.ini", "a.png.crdownload", "~$a.png"]
    for name in (*good, *masks, *litter, "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "more.png").mkdir()
    assert [path.name for path in expand([tmp_path])] == sorted(good)
    note = capsys.readouterr().err
    assert note.startswith(f"note: skipped in {tmp_path}: ")
    for part in (
        "7 of another system or program: ",
        "6 masks (name them",
        "1 folders: more.png",
        "by their name: notes.txt",
    ):
        assert part in note
    assert expand([tmp_path / "a_mask.png"]) == [tmp_path / "a_mask.png"]


def test_a_picture_in_which_nothing_is_seen_gets_no_answer(package_folder, tmp_path):
    files = [tmp_path / name for name in ("black.png", "transparent.png", "deep.png")]
    Image.new("L", (60, 60)).save(files[0])
    Image.new("RGBA", (60, 60)).save(files[1])
    Image.fromarray((speckle(60, 60) // 16).astype(np.uint8)).save(files[2])
    done = run(*files, "--model", package_folder, "--json")
    assert done.exit_code == 1
    for row, file in zip(json.loads(done.stdout), files, strict=True):
        assert (row["probability"], row["error_type"]) == (None, "ImageError")
        assert row["error"].startswith(f"{file} is almost of one value")
    array = load_model(package_folder).predict([np.full((60, 60), 90, np.uint8)])[0]
    assert str(array.error).startswith("image[0] is almost of one value")
