"""Reaching the MLflow store: created once before any worker starts, with errors that say what to do."""

from __future__ import annotations

import importlib.util
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError, store_reason, store_remedy
from bus_mlops.files import anchored, local_path, sqlite_file, sqlite_problem
from bus_mlops.tracking import patience

if TYPE_CHECKING:
    from mlflow import MlflowClient


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
    # Creating the tables takes a few seconds and prints dozens of lines that help nobody; a locked database is
    # waited for, and what remains of its errors is raised.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    address = anchored(tracking.uri)
    try:
        with _created_once(file):
            if file is not None:
                check_database(file, tracking.artifacts)
            # The registry is named too: MLFLOW_REGISTRY_URI would be asked otherwise.
            client = patience.patient(_open)(MlflowClient, address)
    except MlflowException as error:
        raise LedgerError(_unreachable(tracking.uri, error)) from error
    except LedgerError:
        raise
    except Exception as error:
        if any(words in str(error) for words in ("locked", "not a database", "malformed")):
            raise LedgerError(_unreachable(tracking.uri, error)) from error
        raise
    return cast("MlflowClient", patience.PatientClient(client))


def _open(client: Callable[..., MlflowClient], address: str) -> MlflowClient:
    """A client that has asked its store something: whatever its opening may run into, it has run into."""
    opened = client(tracking_uri=address, registry_uri=address)
    opened.search_experiments(max_results=1)
    return opened


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """The database of a local store as it is, without MLflow; one that is locked is waited for as by every call.

    Raises:
        LedgerError: It stays locked.
    """
    with closing(sqlite3.connect(file, timeout=patience.PATIENCE_SECONDS)) as database:
        try:
            yield database
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise LedgerError(_unreachable(f"sqlite:///{file}", error)) from error
            raise


def check_database(file: Path, artifacts: str) -> None:
    """Look at an SQLite store before anything is asked of it, or created in its place.

    Raises:
        LedgerError: It is damaged; or it is missing or empty, though `artifacts` has files of its runs.
    """
    if file.exists() and file.stat().st_size:
        if problem := sqlite_problem(file, patience.PATIENCE_SECONDS):
            raise LedgerError(damaged(file, artifacts, problem))
    elif "://" not in artifacts and any(Path(artifacts).glob("*/artifacts/*")):
        state = "is empty" if file.exists() else "is not there"
        raise LedgerError(damaged(file, artifacts, f"it {state}, though {artifacts} has artifacts of its runs"))


def require_place(tracking: TrackingConfig) -> None:
    """Raise LedgerError where a local store keeps the artifacts of its experiment elsewhere; reads the file alone."""
    file = sqlite_file(tracking.uri)
    if file is None or not file.exists() or not file.stat().st_size:
        return
    with opened(file) as database:
        query = "select artifact_location from experiments where name = ?"
        for (recorded,) in database.execute(query, (tracking.experiment,)):
            _require_place(tracking.experiment, recorded, _address(tracking.artifacts))


def damaged(file: Path, artifacts: str, problem: str) -> str:
    """What to do about a database that cannot be used, and what is lost with it."""
    return (
        f"{file} holds runs, registered models and the decisions about them, and is damaged or lost: {problem}. "
        "Stop what uses it and bring back a copy. What is still in a damaged file may be saved: "
        f"`sqlite3 {file.name} '.recover' | sqlite3 saved.db`. Where there is no copy, `bus-mlops repair` sets it and "
        f"{artifacts} aside after a question, and the next `dvc repro` trains every run again; versions and decisions "
        "are lost (packages that were exported or pulled still work)."
    )


@contextmanager
def at_rest(file: Path) -> Iterator[None]:
    """Hold the lock of an SQLite store, so that no training begins.

    Raises:
        LedgerError: One is at work.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(str(lock_of(file)), timeout=0):
            yield
    except Timeout:
        raise LedgerError(f"a training is at work on {file}: wait for it or stop it, then run again.") from None
    except PermissionError as error:
        raise LedgerError(f"{file} cannot be changed: {error}. Nothing was.") from error


def lock_of(file: Path) -> Path:
    """The lock file that a training holds on an SQLite store."""
    return file.resolve().with_name(f"{file.resolve().name}.lock")


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
        _require_place(name, found.artifact_location, _artifact_location(client, artifacts))
        return str(found.experiment_id)
    try:
        location = _artifact_location(client, artifacts)
        return str(client.create_experiment(name, artifact_location=location))
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
    if file is None or (file.exists() and file.stat().st_size):
        yield
        return
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.creating.lock"):
        yield


def _artifact_location(client: MlflowClient, artifacts: str) -> str | None:
    if "://" not in artifacts and client.tracking_uri.startswith(("http://", "https://")):
        return None  # the server decides
    return _address(artifacts)


def _address(artifacts: str) -> str:
    return artifacts if "://" in artifacts else Path(artifacts).resolve().as_uri()


def _require_place(name: str, recorded: str, wanted: str | None) -> None:
    """Refuse to go on where MLflow would write artifacts elsewhere than the parameters say."""
    if wanted is None or _same_place(recorded, wanted):
        return
    raise LedgerError(
        f"experiment {name!r} keeps its artifacts in {recorded}, but tracking.artifacts of params.yaml is {wanted}. "
        "Was the project copied, moved, renamed or mounted elsewhere? `bus-mlops relocate` makes its database point to "
        "where it is now. Otherwise set tracking.artifacts to where the artifacts are, or name another "
        "tracking.experiment for new ones. Nothing was written."
    )


def _same_place(recorded: str, wanted: str) -> bool:
    paths = [local_path(address) for address in (recorded, wanted)]
    if None in paths:
        return recorded.rstrip("/") == wanted.rstrip("/")
    return len({path.resolve() for path in paths if path is not None}) == 1


def _unreachable(uri: str, error: Exception) -> str:
    if "locked" in str(error):
        return f"the MLflow database {uri} is locked by another process: wait for it or stop it, then run again."
    return f"the MLflow store {uri} cannot be used: {store_reason(error)}. {store_remedy(str(error), uri)}"
