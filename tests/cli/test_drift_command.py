"""`bus-mlops drift`: a log read, compared, drawn; lines that are not what they were are named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bus_mlops.cli.drift import drift
from bus_mlops.consumer import answer_log, answer_log_reading
from bus_mlops.consumer.answer_log import AnswerLog, digest, rotated
from bus_mlops.consumer.client import BusModel, Prediction, load_model
from bus_mlops.consumer.package_files import write_sums
from bus_mlops.consumer.package_format import JudgedNumbers, ScoreBins
from bus_mlops.consumer.refusal import HELD_OUT, Oddity, Refusal, Share
from bus_mlops.errors import AnswerLogError, RegistryError
from bus_mlops.files import write_json
from bus_mlops.images.picture_statistics import STATISTICS_VERSION

app = typer.Typer()
app.command()(drift)


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture
def model(package_folder, tmp_path) -> BusModel:
    """A package that says how its judged answers were spread."""
    folder = shutil.copytree(package_folder, tmp_path / "package")
    package = load_model(folder).package
    judged = JudgedNumbers(
        construction="ensemble",
        images=200,
        malignant=80,
        cases=200,
        folds=2,
        networks=1,
        ships=2,
        answered=200,
        threshold=0.4,
        numbers={},
        at_fold_thresholds={},
        scores=ScoreBins.of(np.random.default_rng(0).random(200)),
    )
    write_json(folder / "package.json", package.model_copy(update={"judged": judged}).model_dump(mode="json"))
    write_sums(folder)
    return load_model(folder)


def written(
    path: Path, model: str, scores: np.ndarray, monkeypatch: pytest.MonkeyPatch, minutes: int = 2, size: int = 2**20
) -> Path:
    """A log with a line for each score, two minutes apart."""
    log = AnswerLog(path, size)
    for i, score in enumerate(scores):
        moment = f"2026-01-{1 + i * minutes // 1440:02d}T{i * minutes // 60 % 24:02d}:{i * minutes % 60:02d}:00.000Z"
        monkeypatch.setattr(answer_log, "_now", lambda moment=moment: moment)
        row = Prediction("", float(score), 0.0, (float(score),) * 2, "benign", 0.4, "m", None, input=f"{i:064x}")
        log.add(model, row)
    return path


def test_a_log_without_and_with_drift(model, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    log = written(tmp_path / "log", model.digest, rng.random(150), monkeypatch, size=9000)
    assert len(rotated(log)) > 2
    calm = run(log, "--model", model.folder)
    assert calm.exit_code == 0, calm.output
    assert "150 of 150 answers counted" in calm.stdout
    assert "No drift is shown" in calm.stdout
    moved = written(tmp_path / "moved", model.digest, rng.random(150) ** 3, monkeypatch)
    done = run(moved, "--model", model.folder, "--svg", tmp_path / "drift.svg")
    assert done.exit_code == 1
    assert "DRIFT" in done.stdout
    assert ElementTree.parse(tmp_path / "drift.svg").getroot().tag.endswith("svg")
    values = json.loads(run(moved, "--model", model.folder, "--json").stdout)
    assert values["evidence_most"] >= 100
    assert values["stability"]["index"] > values["stability"]["usual"] > values["stability"]["expected"]
    assert run(moved, "--model", model.folder, "--until", "2026-01-01T00:20:00").exit_code == 0


def test_more_refusals_than_of_known_images_are_drift(model, tmp_path, monkeypatch):
    rule = Oddity(
        statistics_version=STATISTICS_VERSION,
        center=(0.0,),
        scale=(1.0,),
        linear=(0.0,),
        square=(0.0,),
        bias=0.0,
        threshold=1.0,
        rate=0.02,
        images=500,
        refused={HELD_OUT: Share(of=500, share=0.01)},
    )
    package = model.package.model_copy(update={"refusal": Refusal(oddity=rule)})
    write_json(model.folder / "package.json", package.model_dump(mode="json"))
    write_sums(model.folder)
    digest = load_model(model.folder).digest
    rng = np.random.default_rng(2)
    for name, share, said in (("calm", 0.01, False), ("odd", 0.25, True)):
        log = AnswerLog(tmp_path / name)
        for i in range(150):
            monkeypatch.setattr(answer_log, "_now", lambda i=i: f"2026-01-01T{i // 30:02d}:{2 * i % 60:02d}:00.000Z")
            row = Prediction("", 0.5, 0.0, (0.5,) * 2, "benign", 0.4, "m", None, input=f"{i:064x}")
            score = rng.random()
            answered = replace(row, probability=score, members=(score,) * 2)
            refused = replace(row, probability=None, members=None, label=None, status="refused")
            log.add(digest, refused if rng.random() < share else answered)
        done = run(tmp_path / name, "--model", model.folder)
        assert (done.exit_code == 1) == said, done.output
        assert ("images are refused than of those that the model knows" in done.stdout) == said
        values = json.loads(run(tmp_path / name, "--model", model.folder, "--json").stdout)["refusals"]
        assert (values["counted"], values["expected"], values["noticed"] is not None) == (150, 0.01, said)


def test_images_that_come_together_or_again_count_once(model, tmp_path, monkeypatch):
    log = written(tmp_path / "log", model.digest, np.full(60, 0.99), monkeypatch, minutes=0)
    done = run(log, "--model", model.folder)
    assert "1 of 60 answers counted" in done.stdout
    assert "--apart 0" in done.stdout
    assert done.exit_code == 0
    assert run(log, "--model", model.folder, "--apart", 0).exit_code == 1
    again = [replace_line(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert len(answer_log_reading.taken(again, model.digest, None, None)) == 1


def replace_line(content: bytes) -> answer_log_reading.Line:
    return answer_log_reading.Line.model_validate({**json.loads(content), "input": "a" * 64})


def test_lines_that_were_changed_removed_or_cut_off_are_named(model, tmp_path, monkeypatch):
    log = written(tmp_path / "log", model.digest, np.linspace(0, 1, 20), monkeypatch)
    lines = log.read_bytes().splitlines(keepends=True)
    for name, changed, said in (
        ("removed", lines[:4] + lines[5:], "line 5 does not follow"),
        ("changed", [*lines[:4], lines[4].replace(b'"answered"', b'"refused"'), *lines[5:]], "line 6 does not follow"),
        ("begun late", lines[3:], "line 1 is not the first that was written"),
        ("torn", [*lines[:4], lines[4][:30] + b"\n", *lines[5:]], "line 5 is no line of a log"),
        ("cut off", [*lines[:-1], lines[-1][:-9]], "line 20 is no line of a log"),
        ("huge", [*lines[:2], b"[" * 300_000 + b"\n", *lines[2:]], "line 3 is no line of a log"),
    ):
        log.write_bytes(b"".join(changed))
        done = run(log, "--model", model.folder)
        assert done.exit_code == 1, name
        assert said in done.stderr, name
    log.write_bytes(b"".join(lines))
    assert answer_log_reading.read(log).end == digest(lines[-1])


def test_what_cannot_be_compared_is_said(model, package_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BUS_MLOPS_CACHE", str(tmp_path / "cache"))
    log = written(tmp_path / "log", model.digest, np.linspace(0, 1, 5), monkeypatch)
    other = written(tmp_path / "other", load_model(package_folder).digest, np.linspace(0, 1, 5), monkeypatch)
    (tmp_path / "empty").touch()
    for kind, reason, arguments in (
        (AnswerLogError, "is no log of answers", [tmp_path / "absent"]),
        (AnswerLogError, "empty holds no answer", [tmp_path / "empty"]),
        (AnswerLogError, "Name it: --model", [log]),
        (AnswerLogError, "no line of .*log is of tiny-phantom", [log, "--model", package_folder]),
        (RegistryError, "written by an earlier version", [other, "--model", package_folder]),
    ):
        with pytest.raises(kind, match=reason):
            run(*arguments)
    (tmp_path / "cache").mkdir()
    model.folder.rename(tmp_path / "cache" / model.digest)
    assert run(log).exit_code == 0
    done = run(log, "--since", "2030-01-01")
    assert done.exit_code == 1
    assert "log: no answer of this model lies in the window; the log goes from 2026-01-01T" in done.stderr


def test_an_answer_is_compared_as_it_was_judged():
    line = answer_log_reading.Line.model_validate(
        {
            "time": "2026-01-01T00:00:00Z",
            "model": "0" * 64,
            "status": "answered",
            "probability": 0.5,
            "members": [0.0, 1.0],
            "input": "0" * 64,
            "before": "0" * 64,
        }
    )
    assert set(answer_log_reading.scores([line] * 50, 1)) == {0.0, 1.0}
    assert answer_log_reading.scores([line, line.model_copy(update={"members": None})], 2) == [0.5, 0.5]
