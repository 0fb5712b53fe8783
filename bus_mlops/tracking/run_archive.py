"""The file in which finished runs travel: a zip of JSON and of their files, without pickle, checked before it is used.

`runs/ID/run.json` says what MLflow had on record of a run, `runs/ID/files/` holds its artifacts, and `export.json`,
written last, the sha256 of each `run.json`. What is in such a file was written by somebody else: nothing in it is
believed that does not follow from the rest, and no path in it is used that leaves its folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, TypeVar

from pydantic import Field, ValidationError

from bus_mlops.config.base import Strict
from bus_mlops.errors import LedgerError
from bus_mlops.files import printable
from bus_mlops.spec import NUMERICS_VERSION, RunSpec
from bus_mlops.tracking.kinds import CELLS
from bus_mlops.tracking.params import DIGEST_PREFIX, nested

FORMAT, VERSION = "finished runs of bus-mlops", 1
HEADER = "export.json"
# Of `export.json` and of a `run.json` with the metrics of 10,000 epochs; more is nobody's.
LARGEST_TEXT = 256 * 2**20
BLOCK = 2**20
# Characters that no file of a run has, and that mean something in the paths of other systems.
ODD = set("\\:\0")
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class PackedParent(Strict):
    """The run of the spec that a run belongs to: its name, its kind, and the tags that say which rows it is."""

    name: str
    kind: str
    tags: dict[str, str]


class PackedRun(Strict):
    """What MLflow has on record of a finished run of a cell.

    Attributes:
        started: In milliseconds since 1970, as `ended`.
        metrics: All values of each: name, value as text (which keeps every digit), milliseconds, step.
        tags: Without those that only the store where it was trained can use.
    """

    run_id: str = Field(pattern="^[0-9a-f]{32}$")
    name: str
    started: int
    ended: int
    params: dict[str, str]
    metrics: tuple[tuple[str, str, int, int], ...]
    tags: dict[str, str]
    parent: PackedParent

    @property
    def kind(self) -> str:
        """The kind of the run."""
        return self.tags.get("kind", "")

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its spec; with the fold it is its key in the ledger."""
        return self.tags["fingerprint"]

    @property
    def fold(self) -> int:
        """Of the cell, from 1; 0 of a refit."""
        return int(self.tags["fold"])

    @property
    def spec(self) -> RunSpec:
        """What was trained, from its parameters."""
        return RunSpec.model_validate(nested(self.params))

    @property
    def digests(self) -> dict[str, str]:
        """Path -> sha256 of each of its files."""
        prefixed = {name: value for name, value in self.params.items() if name.startswith(DIGEST_PREFIX)}
        return {name.removeprefix(DIGEST_PREFIX): value for name, value in prefixed.items()}

    @property
    def last_metrics(self) -> dict[str, float]:
        """The last value of each metric, by which MLflow shows a run."""
        ordered = sorted(self.metrics, key=lambda each: (each[3], each[2]))
        return {name: float(value) for name, value, _, _ in ordered}

    def problem(self) -> str:
        """What in it contradicts the rest of it; "" if nothing does."""
        if self.kind not in CELLS:
            return f"it is of the kind {self.kind!r}, and only {' and '.join(CELLS)} are runs of cells"
        try:
            spec, fold = self.spec, self.fold
            digests = self.tags["data_digest"], self.tags["folds_digest"]
            expected = spec.fingerprint(*digests, refit=fold == 0)
            values = [float(value) for _, value, _, _ in self.metrics]
        except (KeyError, ValueError) as error:  # pydantic's own derive from ValueError
            return f"its parameters or tags are not those of a cell of this version ({str(error).splitlines()[0]})"
        if expected != self.fingerprint:
            return f"its parameters have the fingerprint {expected:.12}... and it names {self.fingerprint:.12}..."
        if not all(map(math.isfinite, values)):
            return "one of its metrics is not finite"
        if not self.digests:
            return "it has no sha256 of its files on record"
        return next((f"the path {printable(path)!r} leaves its folder" for path in self.digests if _is_odd(path)), "")


class Header(Strict):
    """What the file as a whole says of itself; `runs` is run id -> sha256 of its `run.json`."""

    format: str
    version: int
    numerics: int
    bus_mlops: str
    experiment: str
    runs: dict[Annotated[str, Field(pattern="^[0-9a-f]{32}$")], Sha256]


class ArchiveWriter:
    """Writes runs, one after the other, and the header at the end."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._runs: dict[str, str] = {}
        self.files = 0

    def add(self, run: PackedRun, folder: Path) -> None:
        """Add a run, whose files are in a folder."""
        for path in run.digests:
            # Networks are compressed no further.
            self._archive.write(folder / path, _entry(run.run_id, path), compresslevel=1)
            self.files += 1
        text = json.dumps(run.model_dump(mode="json"), indent=1).encode()
        self._archive.writestr(f"runs/{run.run_id}/run.json", text)
        self._runs[run.run_id] = hashlib.sha256(text).hexdigest()

    def close(self, bus_mlops: str, experiment: str) -> Header:
        """Write the header; without it nobody takes the file for whole."""
        header = Header(
            format=FORMAT,
            version=VERSION,
            numerics=NUMERICS_VERSION,
            bus_mlops=bus_mlops,
            experiment=experiment,
            runs=self._runs,
        )
        self._archive.writestr(HEADER, json.dumps(header.model_dump(mode="json"), indent=1))
        return header


class ArchiveReader:
    """Reads what `ArchiveWriter` wrote, and refuses everything else."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive, self._path = archive, path
        names = archive.namelist()
        if HEADER not in names:
            raise LedgerError(f"{path} is a zip without {HEADER}: nothing that `bus-mlops export-runs` has written.")
        text = self._text(HEADER)
        try:
            known = json.loads(text)
            version, numerics = (int(known[name]) for name in ("version", "numerics"))
            ours = known["format"] == FORMAT
        except (ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise LedgerError(f"{path} holds no {FORMAT}: {HEADER} says otherwise. Export them again.")
        if version != VERSION:
            raise LedgerError(
                f"{path} is of version {version} of this kind of file, and this bus-mlops reads version {VERSION}. Use "
                "the same bus-mlops on both sides."
            )
        if numerics != NUMERICS_VERSION:
            raise LedgerError(
                f"{path} holds runs of version {numerics} of the numerics, and this bus-mlops computes by version "
                f"{NUMERICS_VERSION}: the same specs lead to other numbers, so none of them could be used. Train them "
                "here, or use the bus-mlops that trained them."
            )
        self.header = self._model(Header, text, HEADER)
        self._check_names(names)

    def runs(self) -> Iterator[PackedRun]:
        """Each run, checked for contradictions; of its files `extract` says more.

        Raises:
            LedgerError: One is not what the header says, or contradicts itself.
        """
        for run_id, digest in self.header.runs.items():
            name = f"runs/{run_id}/run.json"
            text = self._text(name)
            if hashlib.sha256(text).hexdigest() != digest:
                raise self._refusal(f"{name} was changed: its sha256 is not the one that {HEADER} has")
            run = self._model(PackedRun, text, name)
            problem = "another run stands in its file" if run.run_id != run_id else run.problem()
            if problem:
                raise self._refusal(f"run {run_id} ({printable(run.name)}): {problem}")
            yield run

    def check_files(self, runs: list[PackedRun]) -> None:
        """Raise LedgerError unless the file holds exactly what these runs have on record, and no entry more."""
        expected = {HEADER, *(f"runs/{run.run_id}/run.json" for run in runs)}
        expected |= {_entry(run.run_id, path) for run in runs for path in run.digests}
        there = set(self._archive.namelist())
        if expected != there:
            name = min(expected ^ there)
            what = "is missing" if name in expected else "is on record of no run"
            raise self._refusal(f"{printable(name)} {what}")

    def extract(self, run: PackedRun, path: str, folder: Path) -> Path:
        """Write a file of a run into a folder; it is the one that the run has on record.

        Raises:
            LedgerError: It is not.
        """
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with target.open("wb") as out:
            for block in self._blocks(_entry(run.run_id, path)):
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != run.digests[path]:
            target.unlink()
            raise self._refusal(f"run {run.run_id} ({printable(run.name)}): {path} is not what the run recorded")
        return target

    def require_space(self, folder: Path) -> None:
        """Raise LedgerError where a folder's disk cannot take what the file holds."""
        needed, free = sum(each.file_size for each in self._archive.infolist()), shutil.disk_usage(folder).free
        if needed > free:
            raise LedgerError(
                f"{self._path} holds {needed / 1e6:,.0f} MB, and {folder.resolve()} has {free / 1e6:,.0f} MB left. "
                "Nothing was imported."
            )

    def _check_names(self, names: list[str]) -> None:
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        if twice:
            raise self._refusal(f"{printable(min(twice))} is in it twice")
        odd = [name for name in names if _is_odd(name)]
        if odd:
            raise self._refusal(f"the path {printable(odd[0])!r} leaves its folder, or is none of a file")

    def _text(self, name: str) -> bytes:
        try:
            info = self._archive.getinfo(name)
        except KeyError:
            raise self._refusal(f"{name} is missing") from None
        if info.file_size > LARGEST_TEXT:
            raise self._refusal(f"{name} has {info.file_size:,} bytes, which no export has")
        return b"".join(self._blocks(name))

    def _blocks(self, name: str) -> Iterator[bytes]:
        source: IO[bytes] | None = None
        while True:
            try:
                source = source or self._archive.open(name)
                block = source.read(BLOCK)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
                raise self._refusal(f"{printable(name)} cannot be read ({error})") from error
            if not block:
                source.close()
                return
            yield block

    def _model(self, kind: type[M], text: bytes, name: str) -> M:
        try:
            return kind.model_validate(json.loads(text))
        except (ValidationError, ValueError, RecursionError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            where = ".".join(map(str, first["loc"]))
            raise self._refusal(f"{name} is not as this version writes it: {where} {first['msg']}") from error

    def _refusal(self, problem: str) -> LedgerError:
        return LedgerError(
            f"{self._path} is damaged or was changed: {problem}. Nothing was imported: export and copy it again, and "
            "compare its sha256 on both sides."
        )


M = TypeVar("M", bound=Strict)


@contextmanager
def opened_archive(path: Path) -> Iterator[ArchiveReader]:
    """Read an export.

    Raises:
        LedgerError: It is not there, cut short, or no export.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield ArchiveReader(archive, path)
    except FileNotFoundError:
        raise LedgerError(f"{path} is not there. Name a file that `bus-mlops export-runs` has written.") from None
    except zipfile.BadZipFile as error:
        raise LedgerError(
            f"{path} is no zip, or was cut short ({error}). Nothing was imported: export or copy it again."
        ) from error
    except (IsADirectoryError, PermissionError) as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}. Nothing was imported.") from error


def _entry(run_id: str, path: str) -> str:
    return f"runs/{run_id}/files/{path}"


def _is_odd(path: str) -> bool:
    """Whether a path would lead out of the folder that it is put into, on any system, or is not in its plain form."""
    plain = PurePosixPath(path)
    return str(plain) != path or plain.is_absolute() or ".." in plain.parts or not plain.name or bool(set(path) & ODD)
