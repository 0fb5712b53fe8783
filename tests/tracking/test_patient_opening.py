"""A database that another process has locked is waited for where it is opened, as by every other call."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from made_once import store_in

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError
from bus_mlops.tracking import patience
from bus_mlops.tracking.holdings import find_lost, require_held
from bus_mlops.tracking.relocation import find_damage, find_moves, relocate
from bus_mlops.tracking.store import open_client, opened, require_place

LOCKED = "(sqlite3.OperationalError) database is locked"


@pytest.fixture
def tracking(tmp_path, empty_store, monkeypatch) -> TrackingConfig:
    """A store with an experiment whose artifacts are where they are looked for."""
    monkeypatch.chdir(tmp_path)
    found = store_in(tmp_path, empty_store)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute(
            "insert into experiments (experiment_id, name, artifact_location, lifecycle_stage) values (1, ?, ?, ?)",
            (found.experiment, Path(found.artifacts).as_uri(), "active"),
        )
    Path(found.artifacts).mkdir()
    return found


class Crowded:
    """A client whose store is locked at its first openings, in one way or the other."""

    left = 0
    constructed = 0

    def __init__(self, **_addresses: str) -> None:
        type(self).constructed += 1
        self._lose(2)

    def search_experiments(self, **_options: int) -> list[str]:
        self._lose(0)
        return []

    def _lose(self, at_least: int) -> None:
        if type(self).left > at_least:
            type(self).left -= 1
            raise RuntimeError(LOCKED)


def test_opening_a_client_is_repeated_until_the_lock_is_gone(tracking, monkeypatch):
    monkeypatch.setattr(mlflow, "MlflowClient", Crowded)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(Crowded, "left", 5)  # three times when it is made, twice when it is asked
    monkeypatch.setattr(Crowded, "constructed", 0)
    assert open_client(tracking).search_experiments() == []
    assert (Crowded.left, Crowded.constructed) == (0, 6)
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(Crowded, "left", 1000)
    with pytest.raises(LedgerError, match="is locked by another process: wait for it or stop it"):
        open_client(tracking)


def move(tracking: TrackingConfig) -> None:
    (found,) = find_moves(tracking.model_copy(update={"artifacts": "elsewhere"}))
    Path("elsewhere").mkdir()
    relocate(found)


@pytest.mark.parametrize(
    "read", [require_place, require_held, find_lost, find_moves, find_damage, move], ids=lambda read: read.__name__
)
def test_every_look_into_the_file_has_the_same_patience(
    tracking, monkeypatch, read: Callable[[TrackingConfig], object]
):
    waits = []
    connect = sqlite3.connect

    def noted(database: str | Path, timeout: float = 5.0, uri: bool = False) -> sqlite3.Connection:
        waits.append(timeout)
        return connect(database, timeout, uri=uri)

    monkeypatch.setattr(sqlite3, "connect", noted)
    read(tracking)
    assert waits
    assert set(waits) == {patience.PATIENCE_SECONDS}


def test_a_file_that_stays_locked_is_explained(tracking, tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerError, match=r"mlflow\.db is locked by another process"):
        require_place(tracking)
    holder.execute("ROLLBACK")
    with opened(tmp_path / "mlflow.db") as database, pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.execute("select 1 from absent")
