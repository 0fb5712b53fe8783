"""Every error the platform raises on purpose: one base, a class per kind of failure.

A message says what failed, where, the offending value and what to do next. The command line prints it as
one line and exits with 1; anything that is not a `BusMlopsError` is a bug and keeps its traceback.
"""

import importlib.util
import re
import textwrap
from pathlib import Path


def without_passwords(text: str) -> str:
    """A text in which addresses keep their names and lose their passwords: messages end up in logs and in mails.

    >>> without_passwords("postgresql://bus:pa:ss@host/runs and http://host/?password=x&y=1")
    'postgresql://bus:***@host/runs and http://host/?password=***&y=1'
    """
    return re.sub(r"(://[^\s/@:]*):[^\s/]*@|(?<=[?&])(password=)[^\s&]+", _masked, text)


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}:***@" if found[2] is None else f"{found[2]}***"


class BusMlopsError(Exception):
    """Base of all errors that a user can mend; no message has a password of an address in it."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_passwords(each) if isinstance(each, str) else each for each in args))


class ConfigError(BusMlopsError):
    """`params.yaml` is missing, is not YAML, or holds an unknown key or a value out of range."""


class FileContentError(BusMlopsError, ValueError):
    """A JSON file of ours is cut off, or was edited into something that it cannot be."""


class SourceError(BusMlopsError):
    """A source folder, its metadata file or one of its rows is missing or malformed."""


class ImageError(BusMlopsError):
    """An image or mask cannot be decoded or does not fit its pair."""


class ImageSizeError(ImageError):
    """An image has too many pixels to be decoded safely, or too few to mean anything."""


class DicomError(ImageError):
    """A DICOM file cannot be read, holds no ultrasound picture, or the libraries of the extra `dicom` are missing."""


class DicomArchiveError(BusMlopsError):
    """A DICOM archive is away, refuses, or did not take an answer."""


class DatasetError(BusMlopsError):
    """The assembled benchmark, its manifest or its fold assignment is missing, stale or inconsistent."""


class LeakageError(DatasetError):
    """A leakage group lies in more than one part of a fold."""


class ExtensionError(BusMlopsError):
    """A file of the user's own in `extensions` cannot be run."""


class NetworkError(BusMlopsError):
    """A network name, option or input size that cannot be built."""


class WeightsError(BusMlopsError):
    """Pretrained weights are not to be had: says which file to put where."""


class TrainingError(BusMlopsError):
    """A training diverged (NaN loss) or could not go on."""


class RunError(BusMlopsError):
    """The grid could not go on."""


class LedgerError(BusMlopsError):
    """The MLflow store is locked, missing, out of space or holds inconsistent runs."""


class DamagedRunError(LedgerError):
    """A file of a recorded run is missing, was changed, or is not on record."""


class EvaluationError(BusMlopsError):
    """Predictions that cannot be evaluated: a class, a fold or a column is missing."""


class NothingToJudgeError(EvaluationError):
    """The plan has no candidate for promotion, or nothing to compare it with."""


class ModelOutputError(BusMlopsError):
    """A model's output for one image is not a number."""


class RegistryError(BusMlopsError):
    """A model name, version or alias does not exist, or a package fails its checksum."""


class DamagedPackageError(RegistryError):
    """A file of a package is missing, changed, not listed, no regular file or too large: another copy may be whole."""


class UnsafeGraphError(RegistryError):
    """A network asks for more than its own weights and ONNX's own operators: another file, somebody's function."""


class UntrustedError(RegistryError):
    """A package or a decision is not signed by a key that is trusted here, or the keys themselves cannot be used."""


class StoreError(RegistryError):
    """The place that holds the models cannot be asked: it is away, refuses, or answers with an error."""


class AnswerLogError(BusMlopsError):
    """An answer cannot be written down, so it is not given; or a log of answers cannot be read."""


class PromotionConflictError(RegistryError):
    """The champion is not the one that a decision was made against: somebody else has moved it meanwhile."""


def store_reason(error: BaseException) -> str:
    """Why an MLflow store could not be asked, in a line: where nobody answers, what the socket said.

    Three libraries wrap that in what they tried, 500 characters that end with it.
    """
    said = str(error).strip() or type(error).__name__
    socket = re.search(r"\[Errno -?\d+\] [\w ,]+", said) if "Max retries exceeded" in said else None
    return socket[0].strip() if socket else textwrap.shorten(said.splitlines()[0], 300, placeholder=" ...")


def store_remedy(refusal: str, store: str = "the address of tracking.uri") -> str:
    """What to do when an MLflow store refused with this message."""
    schema = re.search(r"database schema \(found version (\w+)", refusal)
    if schema is not None:
        return _schema_remedy(schema[1], store)
    if "Invalid Host header" in refusal:
        return (
            "The server does not know the name by which you call it: who runs it adds HOST:PORT to its --allowed-hosts "
            "(SERVER_NAMES in docker/.env)."
        )
    if "not authenticated" in refusal:
        return (
            "The server asks for a login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of your "
            "account."
        )
    if "error code 403" in refusal:
        return (
            "Your account (MLFLOW_TRACKING_USERNAME) may not do this: who owns the experiment or the model, or "
            "administers the server, can do it or let you."
        )
    return "Is it there, and is its address right (tracking.uri in params.yaml, or MLFLOW_TRACKING_URI)?"


def _schema_remedy(found: str, store: str) -> str:
    # The installed MLflow knows the versions before its own by a file each. Found, not imported: that takes seconds.
    mlflow = importlib.util.find_spec("mlflow")
    folders = [] if mlflow is None else list(mlflow.submodule_search_locations or [])
    known = any(any(Path(folder).glob(f"store/db_migrations/versions/{found}_*.py")) for folder in folders)
    if known or found == "None":
        return (
            f"An older MLflow made its tables. Copy the database, then bring it up to date: mlflow db upgrade {store}"
        )
    return (
        "A newer MLflow made it, and this one cannot go back: install that version of MLflow here, or bring back a "
        "copy of the database from before."
    )
