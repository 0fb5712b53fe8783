"""Who loses against another process tries again; other errors are raised at once."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bus_mlops.tracking import patience
from bus_mlops.tracking.patience import PatientClient


class Client:
    """Writes to an SQLite file without any patience of its own."""

    name = "client"

    def __init__(self, path):
        self.path = path

    def write(self, value):
        connection = sqlite3.connect(self.path, timeout=0)
        with connection:
            connection.execute("INSERT INTO runs VALUES (?)", (value,))
        connection.close()
        return value

    def add_if_missing(self, value):
        """As MLflow adds a tag or a data set; another process adds it between the question and the answer."""
        connection = sqlite3.connect(self.path, timeout=0)
        if not connection.execute("SELECT 1 FROM runs WHERE value = ?", (value,)).fetchall():
            self.write(value)
            with connection:
                connection.execute("INSERT INTO runs VALUES (?)", (value,))
        return value


@pytest.fixture
def path(tmp_path):
    connection = sqlite3.connect(tmp_path / "runs.db")
    connection.execute("CREATE TABLE runs (value INTEGER UNIQUE)")
    connection.close()
    return tmp_path / "runs.db"


def test_a_call_is_repeated_until_the_lock_is_gone(path):
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    threading.Timer(1.2, holder.execute, args=("ROLLBACK",)).start()
    began = time.monotonic()
    client = PatientClient(Client(path))
    assert client.write(7) == 7
    assert time.monotonic() - began > 1
    assert client.name == "client"
    assert sqlite3.connect(path).execute("SELECT value FROM runs").fetchall() == [(7,)]


def test_patience_ends(path, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.6)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        PatientClient(Client(path)).write(7)


def test_other_errors_are_raised_at_once(tmp_path):
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        PatientClient(Client(tmp_path / "empty.db")).write(7)
    assert time.monotonic() - began < 0.5


def test_what_another_process_has_just_added_is_there_at_the_second_attempt(path):
    assert PatientClient(Client(path)).add_if_missing(7) == 7
    assert sqlite3.connect(path).execute("SELECT value FROM runs").fetchall() == [(7,)]


def test_a_name_that_is_taken_is_said_at_once(tmp_path, empty_store):
    client = PatientClient(MlflowClient(f"sqlite:///{shutil.copy(empty_store, tmp_path)}"))
    client.create_experiment("experiment")
    began = time.monotonic()
    with pytest.raises(MlflowException, match=r"already exists.*UNIQUE constraint failed"):
        client.create_experiment("experiment")
    assert time.monotonic() - began < 5
