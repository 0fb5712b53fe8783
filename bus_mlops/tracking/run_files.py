"""The files of runs, each with a sha256 on record from the moment the run ends, and compared whenever it is read.

The digests are parameters of the run, one a file: MLflow lets nobody change a parameter that is set, nor delete one,
and who may write artifacts cannot reach them. Nothing else in the platform reads artifacts of runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.errors import DamagedRunError, LedgerError
from bus_mlops.files import sha256_file
from bus_mlops.tracking.kinds import CELLS, DISCARDED, kind_of
from bus_mlops.tracking.params import DIGEST_PREFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# A tag: when the digests of a run were recorded, if that was not when it ended.
RECORDED_LATER = "files.recorded_later"
# A tag: the sha256 of the network of a run that was imported without it (`bus-mlops export-runs --without-networks`).
LEFT_BEHIND = "files.network_left_behind"
# Folders that somebody looked into have these; nobody's evidence.
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
MISSING, CHANGED, EXTRA, UNRECORDED, TAGS = "missing", "changed", "not recorded", "without digests", "tags"
ELSEWHERE = "without its network"
REMEDY = (
    "If you have a copy, put it back. Else `bus-mlops repair` lists all that is damaged and, after a question, forgets "
    "those runs; the next `dvc repro` trains exactly these."
)


@dataclass(frozen=True)
class Damage:
    """A file that is `missing`, `changed` or `not recorded`; or what a run as a whole lacks, such as `tags`."""

    run_id: str
    run_name: str
    file: str
    kind: str
    detail: str = ""

    @property
    def sentence(self) -> str:
        """Run, file and what is wrong with it, for people."""
        where = f"run {self.run_id} ({self.run_name})"
        if self.kind == UNRECORDED:
            return f"{where} has no sha256 of its files on record"
        if self.kind == ELSEWHERE:
            return f"{where} was imported without its network"
        if self.kind == TAGS:
            return f"{where} has lost the tags that say what it is: {self.detail}"
        return f"{where}: {self.file} is {self.kind}{f': {self.detail}' if self.detail else ''}"


class RunFiles:
    """Stores the files of runs with their digests, and reads them back."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        # Of runs that have ended: their digests can no longer change.
        self._known: dict[str, Run] = {}
        self._listed: set[str] = set()

    def remember(self, runs: Iterable[Run]) -> None:
        """Note runs that were just read, so that the store is not asked for each of them again."""
        self._known.update({run.info.run_id: run for run in runs if run.info.status == "FINISHED" and _is_cell(run)})

    def forget(self, run_id: str) -> None:
        """Ask the store again when this run is read next."""
        self._known.pop(run_id, None)
        self._listed.discard(run_id)

    def store(self, run_id: str, folder: Path, prefix: str = "") -> dict[str, str]:
        """Store what is in a folder, below `prefix` among the artifacts, at the address that the run has now.

        MLflow's own client keeps addresses by run for the life of a process, whatever `bus-mlops repair` has moved.

        Returns:
            Their digests as parameters, to be written on the run before it ends.
        """
        parameters = {
            f"{DIGEST_PREFIX}{prefix and f'{prefix}/'}{path.relative_to(folder).as_posix()}": sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        self._artifacts(self._client.get_run(run_id)).log_artifacts(str(folder), prefix or None)
        return parameters

    def digests(self, run_id: str) -> dict[str, str]:
        """Path -> sha256 of every file that a run has on record, sorted; empty for a run of an earlier version."""
        return digests_of(self.run(run_id))

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Fetch a file of a run, or a folder of files, into a folder of the run's own below `folder`, and check it.

        The record of a decision of an earlier version has digests of its own kind, tags of the version and of the
        record, and none here: its files come unchecked.

        Raises:
            DamagedRunError: A file is missing, was changed or is not on record, or the run has no digests.
            LedgerError: The artifacts cannot be reached.
        """
        run = self.run(run_id)
        recorded: dict[str, str | None] = {**digests_of(run)}
        if not recorded:
            if _is_cell(run):
                raise DamagedRunError(_undocumented(run))
            recorded = dict.fromkeys(_below(name, self.listing(run)))
        elif run_id not in self._listed:
            # Of a record only this: what decides about it later is stored beside it.
            self._check_list(run, recorded, self.listing(run), "" if _is_cell(run) else name)
            if _is_cell(run):
                self._listed.add(run_id)
        wanted = _below(name, recorded)
        if not wanted and LEFT_BEHIND in run.data.tags:
            raise DamagedRunError(_left_behind(run, name))
        if not wanted:
            raise DamagedRunError(f"run {run_id} ({run.info.run_name}) has no {name} {_where(run)}. {REMEDY}")
        destination = folder / run_id
        destination.mkdir(exist_ok=True, parents=True)
        for path in wanted:
            damage = self._fetch_one(run, path, recorded[path], destination)
            if damage is not None:
                raise DamagedRunError(f"{damage.sentence}. {REMEDY}")
        return destination / name

    def damages(self, run: Run, folder: Path) -> list[Damage]:
        """Everything that is wrong with the files of a run, each fetched into `folder` and removed again.

        Raises:
            LedgerError: The artifacts cannot be reached, so that nothing can be said about them.
        """
        recorded = digests_of(run)
        if not recorded:
            return [_damage(run, "", UNRECORDED)]
        there = self.listing(run)
        found = [_damage(run, path, EXTRA) for path in sorted(there - set(recorded))]
        for path, digest in recorded.items():
            damage = _damage(run, path, MISSING) if path not in there else self._fetch_one(run, path, digest, folder)
            found += [damage] if damage is not None else []
            (folder / path).unlink(missing_ok=True)
        return found

    def listing(self, run: Run) -> set[str]:
        """The paths of all files that a run has now, on record or not; litter of file managers does not count.

        Raises:
            LedgerError: The artifacts cannot be reached.
        """
        artifacts = self._artifacts(run)
        found: set[str] = set()
        folders: list[str | None] = [None]
        try:
            while folders:
                for each in artifacts.list_artifacts(folders.pop()):
                    if each.is_dir:
                        folders.append(each.path)
                    elif not is_litter(each.path):
                        found.add(str(each.path))
        except Exception as error:  # each artifact store raises its own kind
            raise LedgerError(_unreachable(run, "files", error)) from error
        return found

    def fetch_unchecked(self, run: Run, name: str, folder: Path) -> Path:
        """Fetch a file of a run into a folder, whatever is on record: only to record it.

        Raises:
            LedgerError: The artifacts cannot be reached.
        """
        self._fetch_one(run, name, None, folder)
        return folder / name

    def recorded_later(self, run_id: str) -> bool:
        """Whether the digests of a run were recorded after it had ended, by `bus-mlops repair --record`."""
        return RECORDED_LATER in self.run(run_id).data.tags

    def remove(self, run: Run, path: str) -> None:
        """Delete one file of a run."""
        self._artifacts(run).delete_artifacts(path)
        self.forget(run.info.run_id)

    def discard(self, run_id: str) -> None:
        """Delete all files of a run; where only owners may delete, that raises."""
        self._artifacts(self.run(run_id)).delete_artifacts()

    def _check_list(self, run: Run, recorded: Iterable[str], there: set[str], below: str) -> None:
        expected = set(_below(below, recorded))
        gone = _where(run) if there else f"{_where(run)}, where nothing is at all: was the folder moved or not mounted"
        damages = [_damage(run, path, MISSING, gone) for path in sorted(expected - there)]
        damages += [_damage(run, path, EXTRA, _where(run)) for path in _below(below, there - expected)]
        if damages:
            more = f" (and {len(damages) - 1} more)" if len(damages) > 1 else ""
            raise DamagedRunError(f"{damages[0].sentence}{more}. {REMEDY}")

    def _fetch_one(self, run: Run, path: str, digest: str | None, destination: Path) -> Damage | None:
        try:
            file = Path(self._artifacts(run).download_artifacts(path, str(destination)))
            found = sha256_file(file)
        except Exception as error:  # each artifact store raises its own kind
            raise LedgerError(_unreachable(run, path, error)) from error
        if digest in (None, found):
            return None
        detail = f"sha256 {found[:12]}... instead of {digest:.12}..., {file.stat().st_size} bytes"
        return _damage(run, path, CHANGED, detail)

    def run(self, run_id: str) -> Run:
        """A run; one of a cell that has ended is asked for once."""
        if run_id not in self._known:
            run = self._client.get_run(run_id)
            self.remember([run])
            return run
        return self._known[run_id]

    def _artifacts(self, run: Run) -> ArtifactRepository:
        """Where a run's artifacts lie, without asking the store again: it would be asked twice for each file."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(run.info.artifact_uri, tracking_uri=self._client.tracking_uri)


def digests_of(run: Run) -> dict[str, str]:
    """Path -> sha256 of every file that a run has on record, sorted by path."""
    found = {
        name.removeprefix(DIGEST_PREFIX): value
        for name, value in run.data.params.items()
        if name.startswith(DIGEST_PREFIX)
    }
    return dict(sorted(found.items()))


def is_litter(path: str) -> bool:
    """Whether a file is what a file manager leaves in folders that somebody looks into."""
    name = path.rpartition("/")[2]
    return name in LITTER or name.startswith("._")


def _is_cell(run: Run) -> bool:
    return kind_of(run) in (*CELLS, DISCARDED)


def _below(name: str, paths: Iterable[str]) -> list[str]:
    """Of these paths the file of this name, or those in the folder of this name; all of them for no name."""
    return sorted(path for path in paths if not name or path == name or path.startswith(f"{name}/"))


def _damage(run: Run, file: str, kind: str, detail: str = "") -> Damage:
    return Damage(run.info.run_id, str(run.info.run_name), file, kind, detail)


def _where(run: Run) -> str:
    return f"in {run.info.artifact_uri}"


def _undocumented(run: Run) -> str:
    return (
        f"run {run.info.run_id} ({run.info.run_name}) has no sha256 of its files on record: an earlier version of "
        "bus-mlops trained it, or the record was damaged, so nothing says that they are what the training wrote. "
        "`bus-mlops repair --record` compares them with the run's metrics and records what is there now; "
        "`bus-mlops repair` forgets the run after a question, and the next `dvc repro` trains it anew."
    )


def _left_behind(run: Run, name: str) -> str:
    return (
        f"run {run.info.run_id} ({run.info.run_name}) was imported without its network, so it has no {name}: its "
        "predictions count in every table, but no package can be made of it. Import an export that has its network "
        "(`bus-mlops import-runs`), or let `bus-mlops repair --without-networks` forget such runs, so that the next "
        "`dvc repro` trains exactly these."
    )


def _unreachable(run: Run, what: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return (
        f"the {what} of run {run.info.run_id} ({run.info.run_name}) cannot be read from {run.info.artifact_uri}: "
        f"{reason}. Is the store there, and may this account read it? Nothing was changed; run the same command again."
    )
