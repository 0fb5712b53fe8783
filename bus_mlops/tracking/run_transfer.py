"""Moving finished cells between ledgers: `export_runs` writes them into one file, `import_runs` reads them from it.

For colleagues without a shared server, and for a study that goes on on another machine. What was imported counts as
what was trained here: a cell that the ledger holds as FINISHED is never trained again.
"""

from __future__ import annotations

import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops import __version__
from bus_mlops.errors import DamagedRunError, LedgerError
from bus_mlops.files import replacing, sha256_file
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking import processes
from bus_mlops.tracking.kinds import CELLS, FOLD, NOTE, TRIED, kind_of
from bus_mlops.tracking.ledger import MODEL, Ledger, key_of
from bus_mlops.tracking.params import DIGEST_PREFIX
from bus_mlops.tracking.parents import FOLDS_FINISHED, FOLDS_TRIED
from bus_mlops.tracking.run_archive import ArchiveReader, ArchiveWriter, PackedParent, PackedRun, opened_archive
from bus_mlops.tracking.run_files import LEFT_BEHIND, REMEDY, digests_of
from bus_mlops.tracking.run_writer import HOUSEKEEPING

if TYPE_CHECKING:
    from mlflow.entities import Run

# Gets metrics and parameters of a run and the folder with its files; says what contradicts the files, or "".
Check = Callable[[Mapping[str, float], Mapping[str, str], Path], str]
# Tags: the id that an imported run had where it was trained, and when it came.
IMPORTED_FROM, IMPORTED = "imported.from", "imported.when"
# What means something in one store only, or is written anew where it is imported.
LEFT_OUT = ("mlflow.parentRunId", "mlflow.runName", "mlflow.artifact", IMPORTED, *HOUSEKEEPING)
OF_PARENT = (*LEFT_OUT, NOTE, FOLDS_FINISHED, FOLDS_TRIED)
# The tag of a run that names the trial that it was completed from.
COMPLETED_FROM = "completed_from"
# MLflow takes no more parameters in one call.
PARAMETERS = 100


@dataclass(frozen=True)
class Exported:
    """What an export holds: how many runs, specs and files, and the sha256 of the file."""

    runs: int
    specs: int
    files: int
    sha256: str


@dataclass(frozen=True)
class Imported:
    """What came of an import.

    Attributes:
        added: How many runs the ledger did not have.
        there: How many it had.
        other_results: How many of these have other files than the export's.
        completed: How many of these had come without their network, and have it from this export now.
    """

    added: int
    there: int
    other_results: int = 0
    completed: int = 0


def export_runs(
    ledger: Ledger, path: Path, experiment: str, at_work_too: bool = False, networks: bool = True
) -> Exported:
    """Write all finished cells of a ledger, trials and refits too, into one file, each of whose files is as recorded.

    Args:
        ledger: Of the experiment.
        path: Takes the place of what is there, when all of it has been written.
        experiment: Its name.
        at_work_too: Whether to export what is finished while other cells are still trained.
        networks: Without them only tested cells travel: a trial cannot be completed, nor a refit used, without its own.

    Raises:
        LedgerError: Nothing is finished, or cells are at work and this was not asked for.
        DamagedRunError: A run's files are not what it recorded.
    """
    at_work = ledger.cells("attributes.status = 'RUNNING'")
    if at_work and not at_work_too:
        raise LedgerError(
            f"{len(at_work)} cells are being trained now. Wait for them, or export what is finished with --finished."
        )
    kinds = CELLS if networks else (FOLD,)
    runs = [run for kind in kinds for run in ledger.runs(f"attributes.status = 'FINISHED' and tags.kind = '{kind}'")]
    newest = {(key, run.data.tags["kind"]): run for run in reversed(runs) if (key := key_of(run)) is not None}
    if not networks:
        newest = {(key, kind): run for (key, kind), run in newest.items() if key.fold}
    if not newest:
        what = "finished run" if networks else "run of a tested cell"
        raise LedgerError(f"the experiment {experiment!r} has no {what} yet: there is nothing to export.")
    parents: dict[str, PackedParent] = {}
    with replacing(path) as partial:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            writer = ArchiveWriter(archive)
            for run in newest.values():
                _export(ledger, run, parents, writer, networks)
            header = writer.close(__version__, experiment)
        digest = sha256_file(partial)
    specs = {key.fingerprint for key, _ in newest}
    return Exported(len(header.runs), len(specs), writer.files, digest)


def _export(ledger: Ledger, run: Run, parents: dict[str, PackedParent], writer: ArchiveWriter, networks: bool) -> None:
    run_id = run.info.run_id
    params, tags = dict(run.data.params), _kept(run.data.tags, LEFT_OUT)
    if not networks and f"{DIGEST_PREFIX}{MODEL}" in params:
        tags[LEFT_BEHIND] = params.pop(f"{DIGEST_PREFIX}{MODEL}")
    packed = PackedRun(
        run_id=run_id,
        name=str(run.info.run_name),
        started=run.info.start_time,
        ended=run.info.end_time,
        params=params,
        metrics=_history(ledger, run),
        tags=tags,
        parent=_parent(ledger, run, parents),
    )
    problem = packed.problem()
    if problem:
        raise DamagedRunError(f"run {run_id} ({run.info.run_name}) cannot be exported: {problem}. {REMEDY}")
    with tempfile.TemporaryDirectory(prefix="bus-export-") as folder:
        for name in packed.digests:
            ledger.artifact(run_id, name, Path(folder))
        writer.add(packed, Path(folder) / run_id)


def _history(ledger: Ledger, run: Run) -> tuple[tuple[str, str, int, int], ...]:
    """All values of all metrics of a run."""
    histories = (ledger.client.get_metric_history(run.info.run_id, name) for name in sorted(run.data.metrics))
    return tuple(
        (each.key, repr(float(each.value)), each.timestamp, each.step) for found in histories for each in found
    )


def _parent(ledger: Ledger, run: Run, known: dict[str, PackedParent]) -> PackedParent:
    run_id = run.data.tags.get("mlflow.parentRunId", "")
    if run_id not in known:
        parent = ledger.client.get_run(run_id)
        tags = _kept(parent.data.tags, OF_PARENT)
        known[run_id] = PackedParent(name=str(parent.info.run_name), kind=tags.get("kind", "spec"), tags=tags)
    return known[run_id]


def _kept(tags: Mapping[str, str], without: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if not name.startswith(without)}


def import_runs(ledger: Ledger, path: Path, check: Check) -> Imported:
    """Add the runs of an export that the ledger does not have; all of it is checked before anything is written.

    A cell that is there stays as it is, whatever the file says of it; only one that had come without its network gets
    it, if this is it. A run that is cut off is no finished one, so that the same import again adds what is missing.

    Args:
        ledger: To add to.
        path: What `export_runs` wrote.
        check: Holds metrics and parameters of a run against its files.

    Raises:
        LedgerError: The file is damaged, foreign, or of another version; says what is wrong and that nothing was added.
    """
    with opened_archive(path) as archive, tempfile.TemporaryDirectory(prefix="bus-import-") as scratch:
        archive.require_space(Path(scratch))
        runs = list(archive.runs())
        archive.check_files(runs)
        for run in runs:
            _check(archive, run, check, Path(scratch))
        ledger.reconcile()
        missing, there = _missing(ledger, runs)
        waiting = [(run, found) for run, found in there if _is_network_of(run, found)]
        for run, found in waiting:
            _complete(ledger, archive, run, found, Path(scratch))
        other = sum(run.kind == kind_of(found) and _differ(ledger, run, found) for run, found in there)
        # Trials first: what was completed from one names it.
        names: dict[str, str] = {}
        for run in sorted(missing, key=lambda each: each.kind != TRIED):
            names[run.run_id] = _import(ledger, archive, run, names, Path(scratch))
        _summarise(ledger, missing)
    return Imported(len(missing), len(there), other, len(waiting))


def _check(archive: ArchiveReader, run: PackedRun, check: Check, scratch: Path) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for path in run.digests:
            archive.extract(run, path, Path(folder))
        problem = check(run.last_metrics, run.params, Path(folder))
    if problem:
        raise LedgerError(
            f"run {run.run_id} ({run.name}) contradicts itself: {problem}. Nothing was imported: ask whoever exported "
            "it, and have it trained again where it is not the transport's fault."
        )


def _missing(ledger: Ledger, runs: list[PackedRun]) -> tuple[list[PackedRun], list[tuple[PackedRun, Run]]]:
    """The runs of cells that the ledger does not have, and the others with the run that it has."""
    recorded = ledger.finished_cells({run.fingerprint for run in runs})
    missing, there = [], []
    for run in runs:
        key = LedgerKey(run.fingerprint, run.fold)
        # A tested cell serves whoever asks for a trial.
        found = recorded[run.kind].get(key) or (recorded[FOLD].get(key) if run.kind == TRIED else None)
        if found is None:
            missing.append(run)
        else:
            there.append((run, ledger.files.run(found)))
    return missing, there


def _differ(ledger: Ledger, run: PackedRun, found: Run) -> bool:
    """Whether a run of an export and the ledger's have other files, a network that either lacks apart."""
    ours, theirs = ledger.artifact_digests(found.info.run_id), dict(run.digests)
    if not (MODEL in ours and MODEL in theirs):
        ours.pop(MODEL, None)
        theirs.pop(MODEL, None)
    return ours != dict(sorted(theirs.items()))


def _is_network_of(run: PackedRun, found: Run) -> bool:
    """Whether the ledger's run of a cell had come without the network that this run of an export has."""
    network = run.digests.get(MODEL)
    lacks = MODEL not in digests_of(found)
    return lacks and network is not None and network == found.data.tags.get(LEFT_BEHIND)


def _complete(ledger: Ledger, archive: ArchiveReader, run: PackedRun, found: Run, scratch: Path) -> None:
    run_id = found.info.run_id
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        archive.extract(run, MODEL, Path(folder))
        ledger.writer.write(run_id, params=ledger.files.store(run_id, Path(folder)))
    ledger.files.forget(run_id)


def _import(ledger: Ledger, archive: ArchiveReader, run: PackedRun, names: Mapping[str, str], scratch: Path) -> str:
    """Write a run as it was; FINISHED is set last, so a finished run has everything."""
    from mlflow.entities import Metric

    client, writer = ledger.client, ledger.writer
    parent = ledger.parents.find_or_create(
        run.spec, run.fingerprint, run.parent.name, run.parent.tags, run.parent.kind, keep=True
    )
    # What came twice keeps the id that it had where it was trained.
    tags = {IMPORTED_FROM: run.run_id, **run.tags, "mlflow.parentRunId": parent}
    tags[IMPORTED] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    if run.tags.get(COMPLETED_FROM) in names:
        tags[COMPLETED_FROM] = names[run.tags[COMPLETED_FROM]]
    made = client.create_run(
        ledger.experiment, start_time=run.started, tags={**tags, **processes.identity()}, run_name=run.name
    )
    run_id = str(made.info.run_id)
    writer.inputs(run_id, tags)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for path in run.digests:
            archive.extract(run, path, Path(folder))
        ledger.files.store(run_id, Path(folder))
    params = list(run.params.items())
    for first in range(0, len(params), PARAMETERS):
        writer.write(run_id, params=dict(params[first : first + PARAMETERS]))
    writer.history(run_id, [Metric(name, float(value), when, step) for name, value, when, step in run.metrics])
    client.set_terminated(run_id, "FINISHED", end_time=run.ended)
    writer.tidy(run_id)
    return run_id


def _summarise(ledger: Ledger, runs: list[PackedRun]) -> None:
    """Bring the parent runs up to date with the cells that were added."""
    asked: dict[tuple[str, str], tuple[set[int], set[int]]] = {}
    for run in runs:
        folds = asked.setdefault((run.fingerprint, run.parent.kind), (set(), set()))
        folds[run.kind == TRIED].add(run.fold)
    for (fingerprint, kind), folds in asked.items():
        parent = ledger.parents.find(fingerprint, kind)
        if parent is not None:
            ledger.parents.summarise(parent, fingerprint, *folds, predictions=ledger.predictions)
