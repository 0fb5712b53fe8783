"""A project that lies elsewhere than its SQLite store says: MLflow keeps the whole path of every artifact folder."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError
from bus_mlops.files import local_path, sqlite_file, sqlite_problem
from bus_mlops.tracking.patience import PATIENCE_SECONDS
from bus_mlops.tracking.store import at_rest, check_database, damaged, opened

# Where MLflow writes whole paths of artifacts.
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


@dataclass(frozen=True)
class Move:
    """Artifacts that a database looks for in one folder while they lie in another.

    Attributes:
        database: The SQLite file.
        old: The folder that it names.
        new: `tracking.artifacts`, which has them.
        addresses: How many of its addresses lie in `old`.
        left: Folders of runs and models that are still in `old` and not in `new`.
        missing: Those that are in neither; as seen from `new`.
        folders: How many folders of runs and models it names.
    """

    database: Path
    old: Path
    new: Path
    addresses: int
    left: tuple[Path, ...]
    missing: tuple[Path, ...] = ()
    folders: int = 0

    def require_files(self) -> None:
        """Raise LedgerError unless all that is in the old folder, or all that there is, is in the new one."""
        if self.left:
            raise LedgerError(
                f"{len(self.left)} folders of runs and models are in {self.old} and not in {self.new} (the first: "
                f"{self.left[0].relative_to(self.old)}). Copy them (`cp -a {self.old}/. {self.new}/`), or set "
                "tracking.artifacts of params.yaml to where they are. Nothing was changed."
            )
        if self.folders and len(self.missing) == self.folders:
            raise LedgerError(
                f"there is no {self.new} with runs of {self.database}, which looks for them in {self.old}. Put "
                "the folder there, or set tracking.artifacts of params.yaml to where it is. Nothing was changed."
            )


def find_moves(tracking: TrackingConfig) -> list[Move]:
    """The folders that experiments of a local store name and that are not `tracking.artifacts`; none for a server.

    Raises:
        LedgerError: The database is damaged.
    """
    file = sqlite_file(tracking.uri)
    if file is None or not file.exists() or "://" in tracking.artifacts:
        return []
    if problem := sqlite_problem(file, PATIENCE_SECONDS):
        raise LedgerError(damaged(file, tracking.artifacts, problem))
    new = Path(tracking.artifacts).resolve()
    with opened(file) as database:
        # The first one is MLflow's own, which we do not use.
        query = "select distinct artifact_location from experiments where experiment_id != 0"
        olds = {local_path(location) for (location,) in database.execute(query)}
        return [_move(database, file, old, new) for old in sorted(filter(None, olds)) if old.resolve() != new]


def relocate(move: Move) -> int:
    """Make the database look for artifacts in the new folder, in one transaction.

    Returns:
        How many addresses were changed.

    Raises:
        LedgerError: The files are not there, a training is at work on the store, or it cannot be written to.
    """
    move.require_files()
    try:
        with at_rest(move.database), opened(move.database) as database, database:
            changed = 0
            for table, column, row, path in _addresses(database, move.old):
                address = (move.new / path.relative_to(move.old)).as_uri()
                database.execute(f"update {table} set {column} = ? where rowid = ?", (address, row))  # noqa: S608 - ours
                changed += 1
            return changed
    except sqlite3.OperationalError as error:
        raise LedgerError(
            f"{move.database} cannot be changed: {error}. Nothing was: make it writable, or work on a copy of the "
            "project that is (predictions need no repair)."
        ) from error


def find_damage(tracking: TrackingConfig) -> str:
    """What is wrong with the database of a local store; "" where nothing is."""
    file = sqlite_file(tracking.uri)
    try:
        if file is not None:
            check_database(file, tracking.artifacts)
    except LedgerError as error:
        return str(error)
    return ""


def set_aside(tracking: TrackingConfig) -> list[Path]:
    """Rename the database, and the folder of artifacts that it knew, so that the next training begins a new store.

    Returns:
        The new names of what was there.
    """
    file = sqlite_file(tracking.uri)
    assert file is not None  # noqa: S101 - of a local store only something is damaged
    when = time.strftime("%Y%m%d-%H%M%S")
    paths = [file, *([] if "://" in tracking.artifacts else [Path(tracking.artifacts)])]
    with at_rest(file):
        return [path.rename(path.with_name(f"{path.name}.damaged-{when}")) for path in paths if path.exists()]


def _move(database: sqlite3.Connection, file: Path, old: Path, new: Path) -> Move:
    paths = [path for _, _, _, path in _addresses(database, old)]
    gone = [p for p in dict.fromkeys(paths) if p != old and not (new / p.relative_to(old)).exists()]
    left = tuple(p for p in gone if p.exists())
    missing = tuple(new / p.relative_to(old) for p in gone if not p.exists())
    return Move(file, old, new, len(paths), left, missing, len(set(paths) - {old}))


def _addresses(database: sqlite3.Connection, folder: Path) -> Iterator[tuple[str, str, int, Path]]:
    """Table, column, row and path of each address in a folder."""
    for table, columns in ADDRESSES.items():
        for column in columns:
            query = f"select rowid, {column} from {table} where {column} is not null"  # noqa: S608 - ours
            for row, address in database.execute(query).fetchall():
                path = local_path(address)
                if path is not None and path.is_relative_to(folder):
                    yield table, column, row, path
