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
from bus_mlops.errors import LedgerError
from bus_mlops.spec import LedgerKey, RunSpec
from bus_mlops.tracking import processes
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
        """(fingerprint, fold) -> run id of every cell that is FINISHED, or at least of those of some fingerprints."""
        query = "attributes.status = 'FINISHED' and tags.kind = 'fold'"
        if fingerprints is None or len(fingerprints) > FEW:
            return {key: run.info.run_id for key, run in _by_key(self.runs(query))}
        each = (self.runs(f"{query} and tags.fingerprint = '{fingerprint}'") for fingerprint in fingerprints)
        return {key: run.info.run_id for runs in each for key, run in _by_key(runs)}

    def failed(self) -> set[LedgerKey]:
        """(fingerprint, fold) of every cell that FAILED and was never FINISHED since, nor is at work now."""
        runs = self.runs("tags.kind = 'fold' and attributes.status = 'FAILED'")
        others = self.runs("tags.kind = 'fold' and attributes.status = 'RUNNING'")
        at_work = {key for key, _ in _by_key(others)}
        return {key for key, _ in _by_key(runs)} - at_work - set(self.finished())

    def runs_of(self, key: LedgerKey) -> list[Run]:
        """The runs of a cell, the latest first."""
        fingerprint, fold = key
        return self.runs(f"tags.fingerprint = '{fingerprint}' and tags.fold = '{fold}' and tags.kind = 'fold'")

    def finished_run(self, key: LedgerKey) -> Run | None:
        """The run that FINISHED a cell, if there is one."""
        return next((run for run in self.runs_of(key) if run.info.status == "FINISHED"), None)

    def elsewhere(self, driver: str) -> dict[LedgerKey, str]:
        """(fingerprint, fold) -> who trains it, for every cell that another living driver's process is at."""
        running = self.runs("attributes.status = 'RUNNING' and tags.kind = 'fold'")
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
        """Open the run of a cell; its tags name the process, so that another one can tell if it died."""
        fixed = {"kind": "fold", "mlflow.parentRunId": parent_run, **processes.identity(), **tags}
        run = self.client.create_run(self.experiment, tags=fixed, run_name=title)
        run_id = str(run.info.run_id)
        self.writer.write(run_id, params=flatten(spec.model_dump(mode="json")))
        self.writer.inputs(run_id, tags)
        return run_id

    def alive(self, run_id: str) -> None:
        """Record a sign of life of a run's process; safe to call from a thread of its own."""
        for name, value in processes.sign_of_life().items():
            self.client.set_tag(run_id, name, value)

    def finish(self, run_id: str, metrics: Mapping[str, float], folder: Path, tags: Mapping[str, str]) -> None:
        """Record results and artifacts; FINISHED is set last, so a finished run has everything."""
        digests = self.files.store(run_id, folder)
        self.writer.write(run_id, metrics=metrics, params=digests, tags={"progress": "done", **tags})
        self.client.set_terminated(run_id, "FINISHED")

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
        for run in self.runs(f"attributes.status = 'RUNNING' and tags.kind = 'fold' and tags.driver = '{driver}'"):
            self.close_if_running(run.info.run_id, reason)

    def reconcile(self, alone: bool = False) -> list[str]:
        """Close, as KILLED, runs left RUNNING by processes that are gone.

        Args:
            alone: Who holds the lock of a store is: whatever is RUNNING then is of the dead.

        Returns:
            The names of the runs.
        """
        closed = []
        for run in self.runs("attributes.status = 'RUNNING' and tags.kind = 'fold'"):
            dead = alone or processes.is_dead(run.data.tags)
            if dead and self.close_if_running(run.info.run_id, "its process died; closed by a later run"):
                closed.append(f"{run.info.run_name} ({processes.name(run.data.tags)})")
        return closed

    # -- details ---------------------------------------------------------------------------------

    def predictions(self, run_id: str) -> pd.DataFrame:
        """The predictions of a fold run: its test part and its validation part."""
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
