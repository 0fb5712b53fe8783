"""`bus-mlops accept`: text, JSON, files, and a line of error where the folder is not what it should be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from tiny_package import speckle
from typer.testing import CliRunner

from bus_mlops.cli.acceptance import accept
from bus_mlops.consumer.client import load_model
from bus_mlops.errors import SourceError

app = typer.Typer()
app.command()(accept)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Labelled images of sixteen patients, and one that is no image."""
    lines = ["file,label,patient,scanner"]
    for number in range(32):
        Image.fromarray(speckle(40, 50, number)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'malignant' if number % 4 < 2 else 'benign'},p{number // 2},{'AB'[number // 16]}")
    (tmp_path / "broken.png").write_bytes(b"nonsense")
    (tmp_path / "cases.csv").write_text("\n".join([*lines, "broken.png,benign,p99,A"]))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


def test_a_package_on_a_folder_as_text_json_and_files(package_folder, folder, tmp_path):
    out = tmp_path / "found" / "here"
    done = run(package_folder, folder, "--k", 4, "--k", 50, "--out", out)
    for line in (
        "tiny-phantom ",
        "on 32 images of 16 cases (8 malignant)",
        "1 images got no answer, the first is broken.png",
        "malignant from 0.400 on",
        "k = 4: malignant from",
        "k = 50: not drawn",
        "Verdict: NO CLAIM",
        "Passed the gate; no decision is known.",
        "Research use only",
        "trained on synthetic images",
    ):
        assert line in done.stdout
    written = json.loads((out / "acceptance.json").read_text())
    assert json.loads(run(package_folder, folder, "--k", 4, "--k", 50, "--json").stdout) == written
    assert written["verdict"] == "no claim"
    rows = list(csv.DictReader((out / "answers.csv").open()))
    told = [row.probability for row in load_model(package_folder).predict([folder / row["file"] for row in rows])]
    assert [float(row["probability"]) if row["probability"] else None for row in rows] == told
    assert rows[-1] == {"file": "broken.png", "label": "benign", "patient": "p99", "scanner": "A", "probability": ""}


def test_a_bad_folder_is_told_before_a_model_is_loaded(tmp_path):
    with pytest.raises(SourceError, match=r"holds nothing\. Put there a csv"):
        run("models:/nowhere@champion", tmp_path)
