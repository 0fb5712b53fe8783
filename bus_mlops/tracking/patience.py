"""A client that waits for a database that another process has locked, rather than losing a training over it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

# Seconds that a locked database is waited for, on top of the last attempt, which MLflow lets wait for 20.
PATIENCE = 60.0
# Seconds between two attempts.
PAUSE = 0.5


class PatientClient:
    """An `MlflowClient` each of whose calls is repeated while the database is locked.

    A call that failed for a lock has changed nothing: SQLite takes a transaction whole or not at all. A server
    that does not answer is waited for by MLflow itself (`MLFLOW_HTTP_REQUEST_MAX_RETRIES`, about four minutes).
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return patient(value) if callable(value) else value


def patient(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, repeated while the database is locked, at most for `PATIENCE` seconds."""

    @functools.wraps(call)
    def repeated(*arguments: Any, **options: Any) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return call(*arguments, **options)
            except Exception as error:
                if "database is locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)

    return repeated
