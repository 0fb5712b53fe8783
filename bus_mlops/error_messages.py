"""From an exception to the one sentence and exit code that a person at a terminal gets."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from bus_mlops.errors import BusMlopsError, store_reason, store_remedy
from bus_mlops.paragraphs import width_of, wrapped

# What is wrong with a path that a user has named; a file that is missing may be a bug, and keeps its traceback.
_WRONG_PATHS = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)

STOPPED = "stopped. What was finished is kept; run the same command again to go on."


class readable_errors:  # noqa: N801 - reads as a phrase where it is used: with readable_errors():
    """Turn the errors a user can mend into one message and exit code 1; with `debug`, into a traceback."""

    def __init__(self, debug: bool = False) -> None:
        self.debug = debug or os.environ.get("BUS_MLOPS_DEBUG", "") not in ("", "0")

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or self.debug:
            return
        if isinstance(error, KeyboardInterrupt):
            fail(STOPPED, code=130)
        message = explain(error)
        if message is not None:
            fail(message)


def fail(message: str, code: int = 1) -> None:
    """Print one error message and leave."""
    sys.stdout.flush()
    print(wrapped(f"error: {message}", width_of(sys.stderr)), file=sys.stderr)
    raise SystemExit(code)


def explain(error: BaseException) -> str | None:
    """One sentence for an error that a user can mend; None for a bug, which keeps its traceback."""
    if isinstance(error, BusMlopsError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename2 or error.filename or Path.cwd()  # of a copy, filename2 is the target
        return f"the disk is full while writing {where}. Free some space and run the same command again."
    if isinstance(error, PermissionError):
        return f"no permission for {error.filename}. Change its owner or mode and run the same command again."
    if isinstance(error, OSError) and error.errno in _WRONG_PATHS and error.filename:
        return f"{error.filename} cannot be used: {error.strerror}. Name another path, or mend this one."
    if isinstance(error, ModuleNotFoundError) and not (error.name or "bus_mlops").startswith("bus_mlops"):
        return (
            f"this needs the Python package {error.name!r}, which is not installed. The base install of bus-mlops is "
            "for predictions; the pipeline and the registry need more: pip install 'bus-mlops[train]'."
        )
    text = str(error)
    if "database is locked" in text:
        return (
            "the MLflow database is locked by another process. Wait for it or stop it "
            "(`fuser mlflow.db` names it), then run the same command again."
        )
    if "database or disk is full" in text:
        return "the disk is full while writing the MLflow database. Free some space and run the command again."
    if type(error).__name__ == "MlflowException":  # by its name, since importing MLflow takes seconds
        return (
            f"the MLflow store refused: {store_reason(error)}. {store_remedy(text)} "
            "What was finished is kept: run the same command again."
        )
    return None
