"""`bus-mlops repair` and `verify --all`: what is damaged is listed, forgotten after a question, and trained anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from bus_mlops.cli.app import app
from bus_mlops.config import TrackingConfig
from bus_mlops.evaluation.results import seal
from bus_mlops.experiments.cell_predictions import cell_metrics
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.files import read_json
from bus_mlops.paths import LEDGER, PREDICTIONS
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import CURVES, Ledger
from bus_mlops.tracking.ledger import PREDICTIONS as PREDICTED
from bus_mlops.tracking.run_files import RECORDED_LATER, RunFiles

FOLDS = (1, 2, 3)
PRINT = "f" * 64


class Project:
    """A working folder with a ledger of a spec on three folds, and the predictions collected from them."""

    def __init__(self, folder: Path, demo, demo_values) -> None:
        values = {**demo_values, "tracking": {"uri": "sqlite:///mlflow.db", "artifacts": str(folder / "mlartifacts")}}
        (folder / "params.yaml").write_text(yaml.safe_dump(values))
        self.folder, self.spec = folder, make_spec(demo, "mobilenet", "all")
        self.ledger = Ledger(TrackingConfig(uri="sqlite:///mlflow.db", artifacts=str(folder / "mlartifacts")))
        self.parent = self.ledger.parents.find_or_create(self.spec, PRINT, "a spec", {})
        self.runs = [self.train(fold) for fold in FOLDS]
        self.ledger.parents.summarise(self.parent, PRINT, FOLDS)
        (folder / PREDICTIONS).mkdir(parents=True)
        for strategy, runs in (("losses", self.runs), ("augmentation", [])):
            (folder / PREDICTIONS / f"{strategy}.parquet").write_text("collected")
            seal(folder / PREDICTIONS, strategy, {run: {"files": {}} for run in runs})

    def train(self, fold: int, kind: str = "fold") -> str:
        """Record a run of a cell as a worker does."""
        made = self.folder / "made" / f"{kind}-{fold}"
        made.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(fold)
        frame = pd.DataFrame({"part": ["test"] * 20 + ["validation"] * 20, "label": np.arange(40) % 2})
        frame = frame.assign(probability=rng.random(40), dice=np.nan, iou=np.nan)
        frame = frame[(frame["part"] == "validation") | (kind == "fold")]
        frame.to_csv(made / PREDICTED, index=False)
        epochs = self.spec.training.epochs
        pd.DataFrame({"epoch": range(epochs), "loss": 1 / (1 + np.arange(epochs))}).to_csv(made / CURVES, index=False)
        tags = {
            "kind": kind,
            "fingerprint": PRINT,
            "fold": str(fold),
            "data_digest": "d" * 64,
            "folds_digest": "e" * 64,
        }
        run = self.ledger.start(self.parent, f"a spec / fold {fold}", self.spec, tags)
        self.ledger.writer.epoch(run, epochs, {"loss": 1 / epochs})
        self.ledger.finish(run, cell_metrics(frame), made, {})
        return run

    def artifacts(self, run: str) -> Path:
        return self.folder / "mlartifacts" / run / "artifacts"

    def finished(self) -> dict[LedgerKey, str]:
        return Ledger(TrackingConfig(uri="sqlite:///mlflow.db", artifacts="mlartifacts")).finished()


@pytest.fixture
def project(tmp_path, monkeypatch, demo, demo_values) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, demo, demo_values)


def call(*arguments: str, exit_code: int = 0, said: str | None = None) -> str:
    done: Result = CliRunner().invoke(app, list(arguments), input=said)
    assert done.exit_code == exit_code, done.output
    return done.output


def test_what_is_damaged_is_listed_then_forgotten_and_nothing_else(project):
    whole, cut, gone = project.runs
    (project.artifacts(cut) / PREDICTED).write_bytes((project.artifacts(cut) / PREDICTED).read_bytes()[:300])
    shutil.rmtree(project.artifacts(gone))
    (project.artifacts(whole) / "more.txt").write_text("more")
    damages = [
        f"run {cut} (a spec / fold 2): {PREDICTED} is changed",
        f"run {gone} (a spec / fold 3): {CURVES} is missing",
    ]
    for command in (("verify", "--all"), ("repair", "--dry-run"), ("repair",)):
        listed = call(*command, exit_code=1, said="")
        assert all(damage in listed for damage in damages), listed
        assert f"run {whole} (a spec / fold 1): more.txt is not recorded" in listed
        assert "3 runs with 6 files: 4 damages" in listed
    assert "--yes does it without asking" in listed
    assert len(project.finished()) == 3

    assert "2 runs forgotten" in call("repair", said="y\ny\n")
    assert project.finished() == {LedgerKey(PRINT, 1): whole}
    assert not (project.artifacts(whole) / "more.txt").exists()
    client = project.ledger.client
    assert [client.get_run(run).info.lifecycle_stage for run in project.runs] == ["active", "deleted", "deleted"]
    assert client.get_run(project.parent).info.status == "SCHEDULED"
    assert {path.name for path in PREDICTIONS.iterdir()} == {"augmentation.parquet", "augmentation_runs.json"}
    assert "renewed" in read_json(LEDGER)

    again = [project.train(fold) for fold in (2, 3)]
    assert project.finished() == {LedgerKey(PRINT, fold): run for fold, run in zip(FOLDS, [whole, *again], strict=True)}
    assert "3 runs with 6 files: all as recorded" in call("verify", "--all")
    assert json.loads(call("verify", "--all", "--json"))["holds"] is True


def test_a_trials_files_are_looked_at_like_all_others(project):
    trial, other = (project.train(fold, "tried") for fold in (1, 2))
    project.ledger.parents.summarise(project.parent, PRINT, FOLDS, [1, 2])
    (project.artifacts(trial) / PREDICTED).write_text("part,label")
    listed = call("verify", "--all", exit_code=1)
    assert f"run {trial} (a spec / fold 1): {PREDICTED} is changed" in listed
    assert "5 runs with 10 files: 1 damages" in listed
    assert "1 runs forgotten" in call("repair", "--yes")
    assert project.ledger.tried_run(LedgerKey(PRINT, 1)) is None
    assert project.ledger.tried_run(LedgerKey(PRINT, 2)).info.run_id == other
    assert len(project.finished()) == 3
    parent = project.ledger.client.get_run(project.parent)
    assert (parent.info.status, parent.data.tags["folds_tried"]) == ("SCHEDULED", "")


def test_a_run_that_lost_its_tags_stops_nothing_and_is_forgotten(project):
    project.ledger.client.delete_tag(project.runs[0], "fold")
    project.ledger.client.set_tag(project.runs[1], "fold", "two")
    project.ledger.client.set_tag(project.parent, "folds_finished", "one, two")
    assert project.finished() == {LedgerKey(PRINT, 3): project.runs[2]}
    listed = call("repair", "--yes")
    assert f"run {project.runs[1]} (a spec / fold 2) has lost the tags that say what it is" in listed
    assert "1 runs with 2 files: all as recorded" in call("verify", "--all")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: None, ""),
        (lambda folder: cut_lines(folder / PREDICTED), r"gives a "),
        (lambda folder: cut_lines(folder / CURVES), "epochs, and the run was trained for"),
        (lambda folder: (folder / PREDICTED).write_text(""), "cannot be read"),
        (lambda folder: shutil.rmtree(folder), "no files any more"),
    ],
    ids=["whole", "predictions cut", "curve cut", "emptied", "gone"],
)
def test_runs_of_earlier_versions_are_recorded_where_their_metrics_agree(
    tmp_path, monkeypatch, demo, demo_values, harm: Callable[[Path], object], words: str
):
    monkeypatch.chdir(tmp_path)
    store = RunFiles.store
    monkeypatch.setattr(RunFiles, "store", lambda *arguments: store(*arguments) and {})  # as they recorded runs
    project = Project(tmp_path, demo, demo_values)
    monkeypatch.setattr(RunFiles, "store", store)
    harm(project.artifacts(project.runs[0]))
    assert "has no sha256 of its files on record" in call("repair", "--dry-run", exit_code=1)
    said = call("repair", "--record", exit_code=1 if words else 0, said="y\nn\n")
    assert words in said
    tags = [project.ledger.client.get_run(run).data.tags for run in project.runs]
    assert [RECORDED_LATER in each for each in tags] == [not words, True, True]
    assert len(project.finished()) == 3  # without a yes nothing is forgotten
    assert f"({3 - bool(words)} runs recorded after they had ended)" in said
    reader = Ledger(TrackingConfig(uri="sqlite:///mlflow.db", artifacts="mlartifacts"))
    assert len(reader.predictions(project.runs[1])) == 40


def cut_lines(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
