"""The ledger of runs in MLflow: one parent run a spec, one child a fold; what is FINISHED is never trained again."""

from __future__ import annotations

import ast
import math
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.tracking import processes
from bus_mlops.tracking.store import experiment_id, open_client

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Metric, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

PREDICTIONS = "predictions.csv"
CURVES = "learning_curves.csv"
MASKS = "masks.npz"
MODEL = "model.keras"

# Epochs are written together, at most this often in seconds: a call costs as much as a short epoch.
FLUSH_INTERVAL = 5.0
# MLflow takes at most 1,000 in a call.
FLUSH_METRICS = 800


class Ledger:
    """Reads and writes runs; safe to open in several processes at once."""

    def __init__(self, tracking: TrackingConfig) -> None:
        self.client = open_client(tracking)
        self.experiment = experiment_id(self.client, tracking.experiment, tracking.artifacts)
        self._parents: dict[str, Run] | None = None
        self._artifact_uris: dict[str, str] = {}
        self._epochs: dict[str, list[Metric]] = {}
        self._flushed: dict[str, float] = {}

    # -- reading ---------------------------------------------------------------------------------

    def runs(self, query: str) -> list[Run]:
        """All runs of the experiment that match an MLflow filter string, the latest first."""
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                self._artifact_uris.update({run.info.run_id: run.info.artifact_uri for run in found})
                return found

    def finished(self) -> dict[tuple[str, int], str]:
        """(fingerprint, fold) -> run id of every cell that is FINISHED."""
        runs = self.runs("attributes.status = 'FINISHED' and tags.kind = 'fold'")
        return {_key(run): run.info.run_id for run in runs}

    def failed(self) -> set[tuple[str, int]]:
        """(fingerprint, fold) of every cell whose latest run is FAILED and that was never FINISHED."""
        latest: dict[tuple[str, int], str] = {}
        for run in self.runs("tags.kind = 'fold'"):  # the latest first
            latest.setdefault(_key(run), run.info.status)
        return {key for key, status in latest.items() if status == "FAILED"} - set(self.finished())

    def runs_of(self, key: tuple[str, int]) -> list[Run]:
        """The runs of a cell, the latest first."""
        fingerprint, fold = key
        return self.runs(f"tags.fingerprint = '{fingerprint}' and tags.fold = '{fold}' and tags.kind = 'fold'")

    def finished_run(self, key: tuple[str, int]) -> Run | None:
        """The run that FINISHED a cell, if there is one."""
        return next((run for run in self.runs_of(key) if run.info.status == "FINISHED"), None)

    def elsewhere(self, driver: str) -> dict[tuple[str, int], str]:
        """(fingerprint, fold) -> who trains it, for every cell that another living driver's process is at."""
        running = self.runs("attributes.status = 'RUNNING' and tags.kind = 'fold'")
        return {
            _key(run): processes.name(run.data.tags)
            for run in running
            if run.data.tags.get("driver") != driver and not processes.is_dead(run.data.tags)
        }

    def artifact(self, run_id: str, name: str, folder: Path) -> Path:
        """Fetch one artifact of a run into a folder of the run's own below `folder`."""
        from mlflow.exceptions import MlflowException

        destination = folder / run_id
        destination.mkdir(exist_ok=True)
        try:
            return Path(self._artifacts(run_id).download_artifacts(name, str(destination)))
        except (MlflowException, OSError) as error:
            where = self._artifact_uris[run_id]
            raise LedgerError(
                f"run {run_id} is recorded as finished, but its {name} is not in {where}: was the folder moved or "
                f"deleted? Bring it back, or forget the run (`mlflow runs delete --run-id {run_id}`) and run the "
                "same command again to train it anew."
            ) from error

    def spec(self, run_id: str) -> RunSpec:
        """The spec that a run recorded as its parameters; LedgerError where another version wrote others."""
        try:
            return RunSpec.model_validate(_nested(self.client.get_run(run_id).data.params))
        except ValidationError as error:
            raise LedgerError(
                f"the parameters of run {run_id} are not those of this version: {error.errors()[0]['msg']}. "
                "Train it anew (`dvc repro`)."
            ) from error

    def artifact_names(self, run_id: str) -> set[str]:
        """The names of a run's artifacts."""
        return {item.path for item in self.client.list_artifacts(run_id)}

    # -- parent runs -----------------------------------------------------------------------------

    def parent(self, spec: RunSpec, fingerprint: str, title: str, tags: Mapping[str, str], kind: str = "spec") -> str:
        """The id of the parent run of a fingerprint, created when it is new; tags are added to it.

        `kind` is "spec", whose children are folds, or "refit", which no comparison of folds may meet.
        """
        if self._parents is None:  # one question for all specs: a plan has hundreds
            parents = [run for each in ("spec", "refit") for run in self.runs(f"tags.kind = '{each}'")]
            self._parents = {run.data.tags["fingerprint"]: run for run in parents}
        found = self._parents.get(fingerprint)
        if found is not None:
            run_id = str(found.info.run_id)
            new = {name: value for name, value in tags.items() if found.data.tags.get(name) != value}
            if new:
                self.tag(run_id, new)
                found.data.tags.update(new)
            return run_id
        fixed = {"kind": kind, "fingerprint": fingerprint, "network": spec.network, **tags}
        run = self.client.create_run(self.experiment, tags=fixed, run_name=title)
        run_id = str(run.info.run_id)
        self._log(run_id, params=_flatten(spec.model_dump(mode="json")))
        self._log_inputs(run_id, tags)
        self._parents[fingerprint] = run
        return run_id

    def summarise(self, parent_run: str, folds: Iterable[int]) -> dict[str, float]:
        """Write mean and standard deviation over the finished folds on the parent run and close it.

        It is FINISHED when all of `folds`, those that were asked for, are; otherwise FAILED.
        """
        import statistics

        children = self.runs(f"tags.`mlflow.parentRunId` = '{parent_run}' and attributes.status = 'FINISHED'")
        latest = {int(r.data.tags["fold"]): r.data.metrics for r in reversed(children)}
        values: dict[str, float] = {}
        names = sorted({name for metrics in latest.values() for name in metrics})
        for name in names:
            column = [m[name] for m in latest.values() if name in m and not math.isnan(m[name])]
            if name in _CURVE_METRICS or not column:
                continue
            values[f"{name}_mean"] = statistics.fmean(column)
            if len(column) > 1:
                values[f"{name}_std"] = statistics.stdev(column)
        done = ", ".join(str(f) for f in sorted(latest))
        self._log(parent_run, metrics=values, tags={"folds_finished": done})
        complete = set(folds) <= set(latest)
        self.client.set_terminated(parent_run, "FINISHED" if complete else "FAILED")
        return values

    # -- fold runs -------------------------------------------------------------------------------

    def start(self, parent_run: str, title: str, spec: RunSpec, tags: Mapping[str, str]) -> str:
        """Open the run of a cell; its tags name the process, so that another one can tell if it died."""
        fixed = {"kind": "fold", "mlflow.parentRunId": parent_run, **processes.identity(), **tags}
        run = self.client.create_run(self.experiment, tags=fixed, run_name=title)
        run_id = str(run.info.run_id)
        self._log(run_id, params=_flatten(spec.model_dump(mode="json")))
        self._log_inputs(run_id, tags)
        return run_id

    def epoch(self, run_id: str, epoch: int, values: Mapping[str, float], progress: str = "") -> None:
        """Record one epoch's metrics, a sign of life, and words on the progress; written every few seconds."""
        from mlflow.entities import Metric

        now = time.monotonic()
        waiting = self._epochs.setdefault(run_id, [])
        waiting.extend(Metric(name, float(value), int(time.time() * 1000), epoch) for name, value in values.items())
        if now - self._flushed.get(run_id, -math.inf) >= FLUSH_INTERVAL or len(waiting) >= FLUSH_METRICS:
            self._log(run_id, tags={**processes.sign_of_life(), "progress": progress})
            self._flushed[run_id] = now

    def alive(self, run_id: str) -> None:
        """Record a sign of life of a run's process; safe to call from a thread of its own."""
        for name, value in processes.sign_of_life().items():
            self.client.set_tag(run_id, name, value)

    def finish(self, run_id: str, metrics: Mapping[str, float], folder: Path, tags: Mapping[str, str]) -> None:
        """Record results and artifacts; FINISHED is set last, so a finished run has everything."""
        self.client.log_artifacts(run_id, str(folder))
        self._log(run_id, metrics=metrics, tags={"progress": "done", **tags})
        self.client.set_terminated(run_id, "FINISHED")

    def discard_artifacts(self, run_id: str) -> None:
        """Remove what a failed run had begun to store, so that nothing half-written is left."""
        self._artifacts(run_id).delete_artifacts()

    def keep(self, run_id: str, folder: Path, tags: Mapping[str, str]) -> None:
        """Store what a failed run leaves for a post-mortem."""
        self.client.log_artifacts(run_id, str(folder))
        self.tag(run_id, tags)

    def fail(self, run_id: str, status: str, reason: str) -> None:
        """Close a run as FAILED or KILLED with the reason."""
        self.tag(run_id, {"ended": reason[:4000]})
        self.client.set_terminated(run_id, status)

    def close_if_running(self, run_id: str, reason: str) -> None:
        """Close a run as KILLED unless it has been closed already."""
        if self.client.get_run(run_id).info.status == "RUNNING":
            self.fail(run_id, "KILLED", reason)

    def close_all(self, driver: str, reason: str) -> None:
        """Close, as KILLED, the runs that a driver's workers leave RUNNING when it stops them."""
        for run in self.runs(f"attributes.status = 'RUNNING' and tags.kind = 'fold' and tags.driver = '{driver}'"):
            self.fail(run.info.run_id, "KILLED", reason)

    def reconcile(self) -> list[str]:
        """Close, as KILLED, runs left RUNNING by processes that are gone; returns their names."""
        closed = []
        for run in self.runs("attributes.status = 'RUNNING' and tags.kind = 'fold'"):
            if processes.is_dead(run.data.tags):
                self.fail(run.info.run_id, "KILLED", "its process died; closed by a later run")
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

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self._log(run_id, tags=tags)

    def show_progress(self, name: str, text: str) -> None:
        """Say on the experiment's page how far something is."""
        self.client.set_experiment_tag(self.experiment, f"progress.{name}", text)

    def _artifacts(self, run_id: str) -> ArtifactRepository:
        """Where a run's artifacts lie, without asking the store again: it would be asked twice for each file."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if run_id not in self._artifact_uris:
            self._artifact_uris[run_id] = self.client.get_run(run_id).info.artifact_uri
        return get_artifact_repository(self._artifact_uris[run_id], tracking_uri=self.client.tracking_uri)

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write in one call, together with the epochs that wait to be written."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        waiting = self._epochs.pop(run_id, [])
        self.client.log_batch(
            run_id,
            metrics=[*waiting, *(Metric(k, float(v), now, 0) for k, v in (metrics or {}).items())],
            params=[Param(k, v) for k, v in (params or {}).items()],
            tags=[RunTag(k, v) for k, v in (tags or {}).items()],
        )

    def _log_inputs(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for name, context in (("data", "benchmark"), ("folds", "folds")):
            if f"{name}_digest" not in tags:
                continue
            # MLflow shows 36 characters of a digest; the tag holds all of it.
            digest = tags[f"{name}_digest"]
            dataset = Dataset(f"bus-{context}", digest[:36], "local", f'{{"uri": "data/{context}"}}')
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
        self.client.log_inputs(run_id, inputs)


_CURVE_METRICS = frozenset({"loss", "validation_loss", "validation_roc_auc", "seconds"})


def _key(run: Run) -> tuple[str, int]:
    return run.data.tags["fingerprint"], int(run.data.tags["fold"])


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{name}."))
        elif isinstance(value, list):
            flat[name] = ", ".join(str(item) for item in value)
        else:
            flat[name] = str(value)
    return flat


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    """What `_flatten` made of a spec, as a mapping again; all values but those of options stay text."""
    values: dict[str, Any] = {}
    for name, text in flat.items():
        *path, last = name.split(".")
        inner = values
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = text
    values["cohort"] = values.get("cohort", "").split(", ")
    # An option may be of any type; the other fields know theirs.
    values["options"] = {name: _literal(text) for name, text in values.get("options", {}).items()}
    return values


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
