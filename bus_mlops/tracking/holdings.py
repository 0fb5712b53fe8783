"""Whether a local store still holds what the results of a project rest on: runs, their files, a registered version.

Asked before every `dvc repro`, so without MLflow, which takes seconds to import. A server's store is not asked: it may
be away, and who trains or promotes asks it anyway.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError
from bus_mlops.files import local_path, read_json, sqlite_file, write_json
from bus_mlops.paths import LEDGER, PREDICTIONS, PREMIUM, PROMOTION, SEARCH
from bus_mlops.tracking.store import check_database, opened, require_place

RUNS = "_runs.json"
# Where predictions are collected to.
COLLECTED = (PREDICTIONS, PREMIUM)
BEST = "best.json"


@dataclass(frozen=True)
class Lost:
    """What results rest on and the store does not hold.

    Attributes:
        runs: Strategy -> the runs that are not there, with the reason.
        searches: The same of each search, whose choice rests on the runs of its trials.
        version: The registered version that is not there, with the reason; "" if it is.
    """

    runs: dict[str, list[str]] = field(default_factory=dict)
    version: str = ""
    searches: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.runs or self.version or self.searches)

    def lines(self) -> list[str]:
        """What is lost, for people."""
        runs = [f"{_folder(name) / name}*: {len(lost)} runs, {lost[0]}" for name, lost in sorted(self.runs.items())]
        runs += [f"{SEARCH / name / BEST}: {len(lost)} runs, {lost[0]}" for name, lost in sorted(self.searches.items())]
        return [*runs, *([f"{PROMOTION}: {self.version}"] if self.version else [])]


def require_held(tracking: TrackingConfig) -> None:
    """Raise LedgerError where the results of the working folder rest on something that is not in its store."""
    file = sqlite_file(tracking.uri)
    if file is None:
        return
    check_database(file, tracking.artifacts)
    require_place(tracking)
    lost = find_lost(tracking)
    if lost:
        raise LedgerError(
            f"results rest on what {file} does not hold. {'; '.join(lost.lines())}. Was the database or "
            f"{tracking.artifacts} deleted, or an older copy put in its place? Bring back the right one. Where there "
            "is none, `bus-mlops repair` gives those results up after a question, and the next `dvc repro` trains "
            "exactly these runs."
        )


def find_lost(tracking: TrackingConfig) -> Lost:
    """Compare what was collected and decided in the working folder with a local store; nothing is lost on a server."""
    file = sqlite_file(tracking.uri)
    if file is None:
        return Lost()
    if not (file.exists() and file.stat().st_size):
        decided = _decided()
        version = f"{decided['model']} version {decided['version']} is in no database" if decided else ""
        return _lost(lambda run, _: f"{run} is in no database", version)
    with opened(file) as database:
        query = "select run_uuid, artifact_uri from runs where status = 'FINISHED' and lifecycle_stage = 'active'"
        held = dict(database.execute(query).fetchall())
        return _lost(lambda run, files: _run_reason(run, files, held), _version_reason(database))


def resting_on(runs: Iterable[str]) -> Lost:
    """What of the working folder's results rests on any of these runs, on a server's store too."""
    gone = set(runs)
    return _lost(lambda run, _: f"{run} was forgotten" if run in gone else "")


def _lost(reason: Callable[[str, list[str]], str], version: str = "") -> Lost:
    """What rests on runs of which there is a reason against them; gets the id of a run and its files."""
    strategies, searches = (
        {name: [why for run, files in runs.items() if (why := reason(run, files))] for name, runs in each}
        for each in (_needed(), _searched())
    )
    runs, trials = ({name: found for name, found in each.items() if found} for each in (strategies, searches))
    return Lost(runs, version, trials)


def give_up(lost: Lost) -> None:
    """Remove the results that rest on what is lost, so that the next `dvc repro` makes them anew."""
    for strategy in lost.runs:
        for path in _folder(strategy).glob(f"{strategy}[._]*"):
            path.unlink()
    for search in lost.searches:
        (SEARCH / search / BEST).unlink(missing_ok=True)
    shutil.rmtree(PROMOTION, ignore_errors=True)
    # Stages that ask the ledger depend on this file: DVC would bring back what was just removed from its cache.
    write_json(LEDGER, {"renewed": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def _needed() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Strategy and, by run, the files that its predictions were collected from."""
    for path in (path for folder in COLLECTED for path in sorted(folder.glob(f"*{RUNS}"))):
        try:
            runs = read_json(path)["runs"]
            yield path.name.removesuffix(RUNS), {run: list(about.get("files", ())) for run, about in runs.items()}
        except (ValueError, KeyError, AttributeError):  # changed since: evaluation says so
            continue


def _folder(strategy: str) -> Path:
    """Where the predictions of a strategy are."""
    return next((folder for folder in COLLECTED if (folder / f"{strategy}{RUNS}").is_file()), PREDICTIONS)


def _searched() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Search and the runs of its trials, of whose files it keeps no list; a trial that failed rests on nothing."""
    for path in sorted(SEARCH.glob(f"*/{BEST}")):
        try:
            trials = [trial for trial in read_json(path)["trials"] if trial["state"] != "failed"]
            yield path.parent.name, {str(run): [] for trial in trials for run in trial["runs"]}
        except (ValueError, KeyError, TypeError):  # changed since: whoever reads it says so
            continue


def _decided() -> dict[str, object]:
    """Model and version of the last promotion; empty where there was none."""
    try:
        decided = read_json(PROMOTION / "promotion.json")
    except (OSError, ValueError):
        return {}
    return decided if isinstance(decided, dict) and decided.keys() >= {"model", "version"} else {}


def _run_reason(run: str, files: list[str], held: dict[str, str]) -> str:
    if run not in held:
        return f"{run} is not among the finished runs"
    folder = local_path(held[run])
    if folder is None:
        return ""
    missing = [name for name in files if not (folder / name).is_file()]
    return f"{run} lacks {missing[0]} in {folder}" if missing else ""


def _version_reason(database: sqlite3.Connection) -> str:
    decided = _decided()
    if not decided:
        return ""
    name, version = decided["model"], decided["version"]
    query = (
        "select storage_location from model_versions where name = ? and version = ? "
        "and current_stage != 'Deleted_Internal'"
    )
    row = database.execute(query, (name, version)).fetchone()
    if row is None:
        return f"{name} version {version} is not registered"
    folder = local_path(row[0] or "")
    return "" if folder is None or folder.is_dir() else f"the files of {name} version {version} are not in {folder}"
