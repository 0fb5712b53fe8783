"""Environment variables of the libraries below: set for good by a program's entry point, for a while by the library.

Importing bus_mlops, and loading a model, leave the environment of the host program as it was.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Nothing phones home or chatters, and artifacts come through the tracking server: where its S3 store lies, clients
# need not be able to go. Outside Amazon, looking for credentials there takes seconds.
MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "AWS_EC2_METADATA_DISABLED": "true",
}
PROCESS = {
    **MLFLOW,
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}

# What MLflow may be told by variables: which server a consumer asks, how it is reached, how long it is waited for.
# All others that begin with its name say where something is kept, what is recorded, or how: `params.yaml` does.
_REACHING = re.compile(
    r"MLFLOW_((TRACKING|HTTP|S3|BOTO|GCS|MULTIPART|ENABLE_(PROXY_)?MULTIPART|SERVER)_\w+|WORKSPACE|LOGGING_LEVEL"
    r"|ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT|DOWNLOAD_CHUNK_TIMEOUT|KERBEROS_\w+)"
)
_LOG = logging.getLogger(__name__)

# How many threads are within `settings` of each variable that it has set.
_USERS: Counter[str] = Counter()
_LOCK = threading.Lock()


def quiet() -> None:
    """Keep this process from phoning home and from chatter; a user's own setting wins.

    Variables by which MLflow would read or write elsewhere than `params.yaml` says are dropped, with a warning.

    For entry points only (the command line, a stage, a worker process), before MLflow, TensorFlow or Ray is imported.
    """
    dropped = sorted(name for name in os.environ if _redirects(name))
    for name in dropped:
        del os.environ[name]
    if dropped:
        _LOG.warning(
            "ignored: %s. Where runs and models are, and what is recorded of them, is said by params.yaml (tracking)",
            ", ".join(dropped),
        )
    for name, value in PROCESS.items():
        os.environ.setdefault(name, value)


@contextmanager
def restored(*names: str) -> Iterator[None]:
    """Give variables back the values that they had, whatever the block does to them."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def settings(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while the block runs, but for those that are set already, which win.

    Of blocks that run at once in several threads, the last one to end takes them away.

    >>> with settings({"BUS_MLOPS_EXAMPLE": "1"}):
    ...     os.environ["BUS_MLOPS_EXAMPLE"]
    '1'
    >>> "BUS_MLOPS_EXAMPLE" in os.environ
    False
    """
    with _LOCK:
        ours = [name for name in values if name in _USERS or name not in os.environ]
        for name in ours:
            os.environ.setdefault(name, values[name])
        _USERS.update(ours)
    try:
        yield
    finally:
        with _LOCK:
            for name in ours:
                _USERS[name] -= 1
                if not _USERS[name]:
                    del _USERS[name]
                    os.environ.pop(name, None)


def _redirects(name: str) -> bool:
    return name.startswith(("MLFLOW_", "_MLFLOW_")) and name not in PROCESS and _REACHING.fullmatch(name) is None
