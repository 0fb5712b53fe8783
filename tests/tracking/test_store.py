"""Reaching the store: what a process that changes its working folder sees."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bus_mlops.config import TrackingConfig
from bus_mlops.consumer.resolve import open_registry
from bus_mlops.errors import LedgerError, StoreError
from bus_mlops.files import anchored
from bus_mlops.tracking.store import experiment_id, open_client


@pytest.fixture(scope="module")
def made_database(new_database, tmp_path_factory) -> bytes:
    """A database with an experiment `made`, as it lies on the disk."""
    file = tmp_path_factory.mktemp("made") / "mlflow.db"
    file.write_bytes(new_database)
    experiment_id(open_client(TrackingConfig(uri=f"sqlite:///{file}")), "made", "mlartifacts")
    return file.read_bytes()


def test_a_process_that_changes_its_folder_changes_the_store(new_database, tmp_path, monkeypatch):
    relative = TrackingConfig(uri="sqlite:///mlflow.db")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mlflow.db").write_bytes(new_database)
        monkeypatch.chdir(tmp_path / name)
        client = open_client(relative)
        assert [each.name for each in client.search_experiments()] == ["Default"]
        experiment_id(client, name, "mlartifacts")
    assert open_registry(anchored(relative.uri)).get_experiment_by_name("second") is not None
    monkeypatch.chdir(tmp_path / "first")
    assert open_client(relative).get_experiment_by_name("second") is None


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def damage(kind: str, database: Path) -> None:
    """Spoil a database in a way that disks, copies and people do."""
    size = database.stat().st_size
    with database.open("r+b") as file:
        if kind == "cut":
            file.truncate(size * 2 // 3)
        elif kind == "emptied":
            file.truncate(0)
        elif kind == "garbled":
            file.seek(size // 4)
            file.write(b"garbage " * (size // 16))
        elif kind == "begun with garbage":
            file.write(b"garbage ")
    if kind == "deleted":
        database.unlink()


@pytest.mark.parametrize("kind", ["cut", "emptied", "garbled", "begun with garbage", "deleted"])
def test_a_damaged_database_is_told_with_what_is_lost_and_kept(kind, made_database, own_folder):
    artifact = own_folder / "mlartifacts" / ("a" * 32) / "artifacts" / "predictions.csv"
    artifact.parent.mkdir(parents=True)
    artifact.write_text("fold")
    database = own_folder / "mlflow.db"
    database.write_bytes(made_database)
    damage(kind, database)
    before = database.read_bytes() if database.exists() else None
    with pytest.raises(LedgerError, match=r"is damaged or lost: .*bring back a copy.*versions and decisions are lost"):
        open_client(TrackingConfig())
    with pytest.raises(StoreError):
        open_registry(anchored("sqlite:///mlflow.db")).search_registered_models()
    assert (database.read_bytes() if database.exists() else None) == before


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("0584bdc529eb", "mlflow db upgrade sqlite:///"), ("ffffffffffff", "A newer MLflow made it")],
)
def test_a_database_of_another_version_of_mlflow_is_told_with_the_command(revision, remedy, made_database, own_folder):
    Path("mlflow.db").write_bytes(made_database)
    with sqlite3.connect("mlflow.db") as database:
        database.execute("update alembic_version set version_num = ?", (revision,))
    with pytest.raises(LedgerError, match=remedy):
        open_client(TrackingConfig())
    with pytest.raises(StoreError, match=remedy):
        open_registry(anchored("sqlite:///mlflow.db"))


@pytest.mark.parametrize("name", ["bus%20project", "what?", "a#b", "a b", "Gerät", "a%3Fb", "a;b=c&d@e:f", "50%"])
def test_folders_with_characters_that_addresses_use(name, made_database, own_folder, monkeypatch):
    project = own_folder / name
    project.mkdir()
    (project / "mlflow.db").write_bytes(made_database)
    for folder, uri in ((project, "sqlite:///mlflow.db"), (own_folder, f"sqlite:///{project}/mlflow.db")):
        monkeypatch.chdir(folder)
        client = open_client(TrackingConfig(uri=uri))
        assert client.get_experiment_by_name("made") is not None
        assert open_registry(anchored(uri)).get_experiment_by_name("made") is not None
    monkeypatch.chdir(project)
    experiment = experiment_id(client, "new", "mlartifacts")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "text", "note.txt")
    assert [path.name for path in project.glob("mlartifacts/*/artifacts/*")] == ["note.txt"]
    assert [path.name for path in own_folder.iterdir()] == [name]


def test_the_registry_is_that_of_the_store_whatever_a_variable_says(made_database, own_folder, monkeypatch):
    Path("mlflow.db").write_bytes(made_database)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{own_folder}/other.db")
    open_client(TrackingConfig()).create_registered_model("tiny")
    with sqlite3.connect("mlflow.db") as database:
        assert database.execute("select name from registered_models").fetchall() == [("tiny",)]
    assert not Path("other.db").exists()
