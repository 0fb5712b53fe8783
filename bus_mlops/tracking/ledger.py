"""The ledger of runs in MLflow: one parent run a spec, one child a fold; what is FINISHED is never trained again."""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bus_mlops.config import TrackingConfig
from bus_mlops.config.intent import INTENT_DIGEST
from bus_mlops.errors import LedgerError
from bus_mlops.spec import LedgerKey, RunSpec
from bus_mlops.tracking import processes
from bus_mlops.tracking.colours import COLOUR, colour_of
from bus_mlops.tracking.kinds import BOOKKEEPING, CELLS, FOLD, TRIED, kind_of, serving
from bus_mlops.tracking.params import flatten, nested
from bus_mlops.tracking.parents import FEW, ParentRuns
from bus_mlops.tracking.run_files import RunFiles
from bus_mlops.tracking.run_writer import RunWriter
from bus_mlops.tracking.search import search_all
from bus_mlops.tracking.store import experiment_id, open_client

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

LOG = logging.getLogger(__name__)

PREDICTIONS = "predictions.csv"
CURVES = "learning_curves.csv"
MASKS = "masks.npz"
MODEL = "model.keras"
# The metric that says how many epochs a cell was trained for, without those that a shorter cell had trained.
EPOCHS_TRAINED = "epochs_trained"


class Ledger:
    """The runs of cells, and what finds and writes them; safe to open in several processes at once.

    `writer` writes to runs of any kind, `files` keeps and checks their artifacts, `parents` keeps those that the runs
    of cells belong to.
    """

    def __init__(self, tracking: TrackingConfig) -> None:
        self.client = open_client(tracking)
        self.experiment = experiment_id(self.client, tracking.experiment, tracking.artifacts)
        self.writer = RunWriter(self.client)
        self.files = RunFiles(self.client)
        self.parents = ParentRuns(self.client, self.writer, self.experiment)

    # -- reading ---------------------------------------------------------------------------------

    def runs(self, query: str) -> list[Run]:
        """All runs of the experiment that match an MLflow filter string, the latest first."""
        found = search_all(self.client, self.experiment, query)
        self.files.remember(found)
        return found

    def finished(self, fingerprints: Collection[str] | None = None) -> dict[LedgerKey, str]:
        """(fingerprint, fold) -> run id of every cell that is FINISHED, or at least of those of some fingerprints.

        With test predictions: what was only tried is not among them.
        """
        return self._finished(fingerprints, (FOLD,))[FOLD]

    def finished_cells(self, fingerprints: Collection[str]) -> dict[str, dict[LedgerKey, str]]:
        """The same of all kinds of cells, by kind: those that are tested, and those that were only tried."""
        return self._finished(fingerprints, CELLS)

    def _finished(
        self, fingerprints: Collection[str] | None, kinds: tuple[str, ...]
    ) -> dict[str, dict[LedgerKey, str]]:
        query = "attributes.status = 'FINISHED' and tags"
        if fingerprints is None or len(fingerprints) > FEW:
            queries = [f"{query}.kind = '{kind}'" for kind in kinds]
        else:
            queries = [f"{query}.fingerprint = '{fingerprint}'" for fingerprint in fingerprints]
        found: dict[str, dict[LedgerKey, str]] = {kind: {} for kind in kinds}
        for key, run in _by_key(run for each in queries for run in self.runs(each) if kind_of(run) in kinds):
            found[kind_of(run)][key] = run.info.run_id
        return found

    def cells(self, query: str) -> list[Run]:
        """The runs of cells, tested or tried, that match an MLflow filter string, the latest first."""
        return [run for run in self.runs(query) if kind_of(run) in CELLS]

    def failed(self, tried: bool = False) -> set[LedgerKey]:
        """(fingerprint, fold) of every cell that FAILED and was never FINISHED since, nor is at work now.

        For who wants them `tried`, a trial that was FINISHED counts too.
        """
        at_work = {key for key, _ in _by_key(self.cells("attributes.status = 'RUNNING'"))}
        failed = {key for key, _ in _by_key(self.cells("attributes.status = 'FAILED'"))}
        return (failed - at_work).difference(*self._finished(None, serving(tried)).values()) if failed else failed

    def runs_of(self, key: LedgerKey) -> list[Run]:
        """The runs of a cell, tested or tried, the latest first."""
        fingerprint, fold = key
        return self.cells(f"tags.fingerprint = '{fingerprint}' and tags.fold = '{fold}'")

    def finished_run(self, key: LedgerKey, tried: bool = False) -> Run | None:
        """The run that FINISHED a cell, if there is one; `tried`: one with test predictions, else one without."""
        finished = [run for run in self.runs_of(key) if run.info.status == "FINISHED"]
        return next((run for kind in serving(tried) for run in finished if kind_of(run) == kind), None)

    def tried_run(self, key: LedgerKey) -> Run | None:
        """The run that FINISHED a cell of a trial, if there is one."""
        runs = self.runs_of(key)
        return next((run for run in runs if run.info.status == "FINISHED" and kind_of(run) == TRIED), None)

    def epochs_trained(self, run_ids: Iterable[str]) -> dict[str, int]:
        """How many epochs each of some finished runs has trained; 0 of one that was completed, or did not record it."""
        metrics = {run_id: self.files.run(run_id).data.metrics for run_id in run_ids}
        return {run_id: int(values.get(EPOCHS_TRAINED, 0)) for run_id, values in metrics.items()}

    def elsewhere(self, driver: str) -> dict[LedgerKey, str]:
        """(fingerprint, fold) -> who trains it, for every cell that another living driver's process is at."""
        running = self.cells("attributes.status = 'RUNNING'")
        return {
            key: processes.name(run.data.tags)
            for key, run in _by_key(running)
            if run.data.tags.get("driver") != driver and not processes.is_dead(run.data.tags)
        }

    def artifact(self, run_id: str, name: str, folder: Path) -> Path:
        """Fetch one artifact of a run into a folder of the run's own below `folder`; it is what the run recorded.

        Raises:
            DamagedRunError: It is not; says what to do.
        """
        return self.files.fetch(run_id, name, folder)

    def artifact_digests(self, run_id: str) -> dict[str, str]:
        """Path -> sha256 of every artifact that a run has on record, sorted; empty for a run of an earlier version."""
        return self.files.digests(run_id)

    def spec(self, run_id: str) -> RunSpec:
        """The spec that a run recorded as its parameters.

        Raises:
            LedgerError: Another version wrote others.
        """
        try:
            return RunSpec.model_validate(nested(self.client.get_run(run_id).data.params))
        except ValidationError as error:
            raise LedgerError(
                f"the parameters of run {run_id} are not those of this version: {error.errors()[0]['msg']}. "
                "Train it anew (`dvc repro`)."
            ) from error

    # -- fold runs -------------------------------------------------------------------------------

    def start(self, parent_run: str, title: str, spec: RunSpec, tags: Mapping[str, str]) -> str:
        """Open the run of a cell, tested unless `tags` has another kind.

        They name the process, so that another one can tell if it died.
        """
        fixed = {"kind": FOLD, "mlflow.parentRunId": parent_run, **processes.identity(), **tags}
        fixed |= {COLOUR: colour_of(spec.network)}
        run = self.client.create_run(self.experiment, tags=fixed, run_name=title)
        run_id = str(run.info.run_id)
        sealed = {INTENT_DIGEST: tags[INTENT_DIGEST]} if INTENT_DIGEST in tags else {}
        self.writer.write(run_id, params={**flatten(spec.model_dump(mode="json")), **sealed})
        self.writer.inputs(run_id, tags)
        return run_id

    def alive(self, run_id: str) -> None:
        """Record a sign of life of a run's process; safe to call from a thread of its own."""
        for name, value in processes.sign_of_life().items():
            self.client.set_tag(run_id, name, value)

    def finish(self, run_id: str, metrics: Mapping[str, float], folder: Path, tags: Mapping[str, str]) -> None:
        """Record results and artifacts; FINISHED is set last, so a finished run has everything."""
        digests = self.files.store(run_id, folder)
        self.writer.write(run_id, metrics=metrics, params=digests, tags=tags)
        self.client.set_terminated(run_id, "FINISHED")
        self.writer.tidy(run_id)

    def discard_artifacts(self, run_id: str) -> None:
        """Remove what a failed run had begun to store; where only owners may delete, that raises."""
        self.files.discard(run_id)

    def keep(self, run_id: str, folder: Path, tags: Mapping[str, str]) -> None:
        """Store what a failed run leaves for a post-mortem."""
        self.writer.write(run_id, params=self.files.store(run_id, folder), tags=tags)

    def close_if_running(self, run_id: str, reason: str, status: str = "KILLED") -> bool:
        """Close a run unless it has been closed already.

        Returns:
            Whether it had not.
        """
        running = self.client.get_run(run_id).info.status == "RUNNING"
        if running:
            self.writer.fail(run_id, status, reason)
        return bool(running)

    def close_all(self, driver: str, reason: str) -> None:
        """Close, as KILLED, the runs that a driver's workers leave RUNNING when it stops them."""
        for run in self.cells(f"attributes.status = 'RUNNING' and tags.driver = '{driver}'"):
            self.close_if_running(run.info.run_id, reason)

    def reconcile(self, alone: bool = False) -> list[str]:
        """Close, as KILLED, runs left RUNNING by processes that are gone.

        Args:
            alone: Who holds the lock of a store is: whatever is RUNNING then is of the dead.

        Returns:
            The names of the runs.
        """
        closed = []
        for run in self.runs("attributes.status = 'RUNNING'"):
            if kind_of(run) not in (*CELLS, *BOOKKEEPING):
                continue
            dead = alone or processes.is_dead(run.data.tags)  # bookkeeping names no process
            if dead and self.close_if_running(run.info.run_id, "its process died; closed by a later run"):
                closed.append(f"{run.info.run_name} ({processes.name(run.data.tags)})")
        return closed

    # -- details ---------------------------------------------------------------------------------

    def predictions(self, run_id: str) -> pd.DataFrame:
        """The predictions of a cell: its test part, unless it was only tried, and its validation part."""
        import pandas as pd

        with tempfile.TemporaryDirectory() as folder:
            return pd.read_csv(self.artifact(run_id, PREDICTIONS, Path(folder)))

    def curves(self, run_id: str) -> pd.DataFrame:
        """The learning curves of a fold run, a row an epoch."""
        import pandas as pd

        with tempfile.TemporaryDirectory() as folder:
            return pd.read_csv(self.artifact(run_id, CURVES, Path(folder)))

    def show_progress(self, name: str, text: str) -> None:
        """Say on the experiment's page how far something is that this machine is at."""
        self.client.set_experiment_tag(self.experiment, f"progress.{name}.{socket.gethostname()}", text)


def key_of(run: Run) -> LedgerKey | None:
    """What the ledger knows the cell of a run by; None where the tags that say so were damaged."""
    try:
        return LedgerKey(run.data.tags["fingerprint"], int(run.data.tags["fold"]))
    except (KeyError, ValueError):
        return None


def _by_key(runs: Iterable[Run]) -> Iterator[tuple[LedgerKey, Run]]:
    """Runs with their cells; one that does not say which it is counts as not there, so that it is trained anew."""
    for run in runs:
        key = key_of(run)
        if key is None:
            LOG.warning(
                "run %s (%s) has lost its tag fingerprint or fold and is passed over: set it again in MLflow, or let "
                "`bus-mlops repair` forget the run",
                run.info.run_id,
                run.info.run_name,
            )
        else:
            yield key, run
