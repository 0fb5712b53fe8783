"""Reaching the MLflow store: created once before any worker starts, with errors that say what to do."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError, store_remedy
from bus_mlops.files import anchored, sqlite_file
from bus_mlops.tracking.patience import PatientClient

if TYPE_CHECKING:
    from mlflow import MlflowClient


# The UI then opens on runs and their curves, not on traces of language models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def open_client(tracking: TrackingConfig) -> MlflowClient:
    """A client for tracking and registry.

    Raises:
        LedgerError: The store cannot be reached.
        ModuleNotFoundError: It is a database, and this is a consumer's install.
    """
    # Without it MLflow says that it does not know `sqlite:`, which nobody can mend.
    if not tracking.uri.startswith(("http://", "https://")) and importlib.util.find_spec("sqlalchemy") is None:
        raise ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    file = sqlite_file(tracking.uri)
    if file is not None and file.exists() and file.stat().st_size and not _is_sqlite(file):
        raise LedgerError(
            f"{file} is not an SQLite database. Move it away (runs in it are lost to the platform) or point "
            "tracking.uri in params.yaml to another file."
        )
    # Creating the tables takes a few seconds and prints dozens of lines that help nobody; a locked database is
    # waited for, and what remains of its errors is raised.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    client = cast("MlflowClient", PatientClient(MlflowClient(tracking_uri=anchored(tracking.uri))))
    try:
        with _created_once(file):
            client.search_experiments(max_results=1)
    except MlflowException as error:
        raise LedgerError(_unreachable(tracking.uri, error)) from error
    except Exception as error:
        if "locked" in str(error) or "not a database" in str(error) or "malformed" in str(error):
            raise LedgerError(_unreachable(tracking.uri, error)) from error
        raise
    return client


def experiment_id(client: MlflowClient, name: str, artifacts: str) -> str:
    """The id of an experiment by name, created when it is not there yet."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise LedgerError(
                f"experiment {name!r} was deleted. Restore it in the MLflow UI, or name another one in "
                "tracking.experiment of params.yaml."
            )
        return str(found.experiment_id)
    try:
        location = _artifact_location(client, artifacts)
        return str(client.create_experiment(name, artifact_location=location, tags=dict(EXPERIMENT_TAGS)))
    except MlflowException:
        found = client.get_experiment_by_name(name)  # another process was faster
        if found is None:
            raise
        return str(found.experiment_id)


def absolute(tracking: TrackingConfig) -> TrackingConfig:
    """The same store for a process with another working folder."""
    return tracking.model_copy(update={"uri": anchored(tracking.uri)})


@contextmanager
def _created_once(file: Path | None) -> Iterator[None]:
    """Several processes that create one SQLite store at the same time would spoil it: only one may."""
    if file is None or file.exists():
        yield
        return
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.creating.lock"):
        yield


def _artifact_location(client: MlflowClient, artifacts: str) -> str | None:
    if "://" in artifacts:
        return artifacts
    if client.tracking_uri.startswith(("http://", "https://")):
        return None  # the server decides
    return Path(artifacts).resolve().as_uri()


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(16) == b"SQLite format 3\x00"


def _unreachable(uri: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0][:300]
    if "locked" in str(error):
        return f"the MLflow database {uri} is locked by another process: wait for it or stop it, then run again."
    return f"the MLflow store {uri} cannot be used: {reason}. {store_remedy(str(error))}"
