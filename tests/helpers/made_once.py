"""What is costly to make and only read is made once a session, and not by each worker of pytest-xdist."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from bus_mlops.config import TrackingConfig


def made_once(request: pytest.FixtureRequest, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that all workers share: `make` fills it for the first that asks, and the others wait for that."""
    base: Path = request.getfixturevalue("tmp_path_factory").getbasetemp()
    # A worker's base lies in that of the session.
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "made-once" / name
    folder.parent.mkdir(exist_ok=True)
    whole = folder.with_name(f"{name}.whole")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


def make_empty_store(folder: Path) -> None:
    """An SQLite store with MLflow's tables, as all of its migrations leave them, and no experiment: `mlflow.db`."""
    from mlflow import MlflowClient

    file = folder / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    # MLflow's own experiment names a folder beside this file; where there is none, MLflow makes one.
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM experiments")


def store_in(folder: Path, empty_store: Path) -> TrackingConfig:
    """A store of one's own, with its artifacts beside it, from the fixture `empty_store`."""
    return TrackingConfig(uri=f"sqlite:///{shutil.copy(empty_store, folder)}", artifacts=str(folder / "artifacts"))
