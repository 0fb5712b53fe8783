"""A client that repeats a call that lost against another process's, rather than losing a training over it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

# Seconds that a locked database is waited for, on top of the last attempt, which MLflow lets wait for 20.
PATIENCE_SECONDS = 60.0
# Seconds between two attempts.
PAUSE_SECONDS = 0.5
# What databases say to the second of two who lock the same rows, or insert the same one: MLflow asks whether a tag or
# a data set is there, and adds it if not, so two runs that log the same data set at once collide.
LOST = (
    "database is locked",
    "UNIQUE constraint failed",  # SQLite
    "duplicate key value",  # PostgreSQL
    "Duplicate entry",  # MySQL
    "deadlock detected",
    "Deadlock found",
)


class PatientClient:
    """An `MlflowClient` each of whose calls is repeated while another process is in its way.

    A call that failed for that has changed nothing: a database takes a transaction whole or not at all. A server
    that does not answer is waited for by MLflow itself (`MLFLOW_HTTP_REQUEST_MAX_RETRIES`, about four minutes).
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return patient(value) if callable(value) else value


def patient(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, repeated while it loses against other processes, at most for `PATIENCE_SECONDS`."""

    @functools.wraps(call)
    def repeated(*arguments: Any, **options: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return call(*arguments, **options)
            except Exception as error:
                if not _lost(error) or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_SECONDS)

    return repeated


def _lost(error: Exception) -> bool:
    taken = getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS"  # a name that is taken stays taken
    return not taken and any(words in str(error) for words in LOST)
