"""A project that was copied, moved or reached by another path: nothing of the first one is touched."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bus_mlops import profiles
from bus_mlops.cli.app import app
from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError
from bus_mlops.tracking import relocation
from bus_mlops.tracking.ledger import PREDICTIONS, Ledger
from bus_mlops.tracking.store import at_rest

TRACKING = TrackingConfig()


@pytest.fixture(scope="module")
def original(new_database, tmp_path_factory) -> Path:
    """A project with a finished run, a logged model and a version of it, at addresses as MLflow writes them."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "mlflow.db").write_bytes(new_database)
    before = Path.cwd()
    os.chdir(folder)
    try:
        ledger = Ledger(TRACKING)
        run = ledger.client.create_run(ledger.experiment, tags={"kind": "fold", "fingerprint": "f", "fold": "1"})
        (folder / "made").mkdir()
        (folder / "made" / PREDICTIONS).write_text("fold\n1\n")
        ledger.finish(run.info.run_id, {}, folder / "made", {})
        model = ledger.client.create_logged_model(ledger.experiment, name="model", source_run_id=run.info.run_id)
        (folder / "mlartifacts/models" / model.model_id / "artifacts").mkdir(parents=True)
        ledger.client.create_registered_model("tiny")
        ledger.client.create_model_version("tiny", model.model_uri, run.info.run_id, model_id=model.model_id)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def copied(original, tmp_path, monkeypatch) -> Path:
    """The working folder: a copy of that project."""
    folder = tmp_path / "copied"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(profiles.text("demo"))
    return folder


def addresses(database: Path) -> list[str]:
    with sqlite3.connect(database) as opened:
        found = [
            address
            for table, columns in relocation.ADDRESSES.items()
            for column in columns
            for (address,) in opened.execute(f"select {column} from {table}")
        ]
    return [address for address in found if address and "mlruns" not in address]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_writes_nothing_into_the_original_and_one_command_mends_it(original, copied):
    before = contents(original)
    with pytest.raises(LedgerError, match=r"keeps its artifacts in .*`bus-mlops relocate`") as refused:
        Ledger(TRACKING)
    assert f"file://{original}/mlartifacts" in str(refused.value)
    assert f"file://{copied}/mlartifacts" in str(refused.value)
    found = addresses(Path("mlflow.db"))
    assert CliRunner().invoke(app, ["relocate"], input="n\n").exit_code == 1
    tried = CliRunner().invoke(app, ["relocate", "--dry-run"])
    assert (tried.exit_code, "4 addresses would be changed" in tried.output) == (1, True), tried.output
    assert addresses(Path("mlflow.db")) == found
    done = CliRunner().invoke(app, ["relocate"], input="y\n")
    assert (done.exit_code, "4 changed" in done.output) == (0, True), done.output
    assert [each for each in addresses(Path("mlflow.db")) if str(original) in each] == []
    ledger = Ledger(TRACKING)
    (run,) = ledger.finished().values()
    assert ledger.predictions(run)["fold"].tolist() == [1]
    (copied / "made" / "more.txt").write_text("more")
    ledger.keep(run, copied / "made", {})
    assert (copied / "mlartifacts" / run / "artifacts" / "more.txt").exists()
    assert contents(original) == before
    for command in (["relocate", "--yes"], ["relocate", "--dry-run"], ["repair", "--yes"]):
        again = CliRunner().invoke(app, command)
        assert (again.exit_code, "where the database looks for them" in again.output) == (0, True), again.output


def test_another_way_to_the_same_folder_is_no_move(original, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(original)
    monkeypatch.chdir(tmp_path / "link")
    Ledger(TRACKING)
    Ledger(TrackingConfig(uri="sqlite:///mlflow.db", artifacts=f"{tmp_path}/link/mlartifacts/"))
    assert relocation.find_moves(TRACKING) == []


def test_where_no_files_came_along_nothing_is_changed_and_where_some_are_lost_they_are_named(original, copied):
    """As on another machine: what the database names is not there."""
    moved = copied.parent / "original"
    with sqlite3.connect("mlflow.db") as opened:
        for table, columns in relocation.ADDRESSES.items():
            for column in columns:
                opened.execute(f"update {table} set {column} = replace({column}, '{original}', '{moved}')")
    run, *others = [path for path in Path("mlartifacts").iterdir() if path.is_dir()]
    shutil.rmtree(run)
    (move,) = relocation.find_moves(TRACKING)
    assert [path.parts[len(move.new.parts)] for path in move.missing] == [run.name]
    for other in others:
        shutil.rmtree(other)
    done = CliRunner().invoke(app, ["relocate", "--yes"])
    assert done.exit_code == 1
    assert "Nothing was changed" in str(done.exception)
    assert any(str(moved) in each for each in addresses(Path("mlflow.db")))


def test_files_that_stayed_behind_are_not_given_up(original, copied):
    shutil.rmtree("mlartifacts")
    done = CliRunner().invoke(app, ["repair", "--yes"])
    assert done.exit_code == 1
    (move,) = relocation.find_moves(TRACKING)
    with pytest.raises(LedgerError, match=r"2 folders of runs and models are in .* Nothing was changed"):
        relocation.relocate(move)
    assert any(str(original) in each for each in addresses(Path("mlflow.db")))


def test_a_store_that_is_at_work_or_read_only_is_not_changed(original, copied):
    (move,) = relocation.find_moves(TRACKING)
    with at_rest(Path("mlflow.db")), pytest.raises(LedgerError, match="a training is at work"):
        relocation.relocate(move)
    assert any(str(original) in each for each in addresses(Path("mlflow.db")))


def test_a_changed_folder_for_artifacts_is_not_ignored(original, monkeypatch):
    monkeypatch.chdir(original)
    for artifacts in ("elsewhere", "s3://bucket/elsewhere"):
        with pytest.raises(LedgerError, match=r"set tracking\.artifacts to where the artifacts are"):
            Ledger(TRACKING.model_copy(update={"artifacts": artifacts}))
