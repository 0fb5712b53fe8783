"""Writing to runs in few calls: epochs are gathered and written in the background, everything else after them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from bus_mlops.tracking import processes
from bus_mlops.tracking.kinds import DISCARDED

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# Epochs are written together, at most this often in seconds: a call costs as much as a short epoch.
FLUSH_SECONDS = 5.0
# MLflow takes at most 1,000 in a call.
FLUSH_METRICS = 800


# Of a run at work: how far it is, and by what others know whether its process and its driver live.
HOUSEKEEPING = ("progress", "process.", "driver.")
LOGGER = logging.getLogger(__name__)


class RunWriter:
    """Writes metrics, parameters, tags and inputs of runs through a client."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._epochs: dict[str, list[Metric]] = {}
        self._flushed: dict[str, float] = {}
        self._background = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._writing: dict[str, list[Future[None]]] = {}

    def epoch(self, run_id: str, epoch: int, values: Mapping[str, float], progress: str = "") -> None:
        """Record one epoch's metrics, a sign of life, and words on the progress.

        Written every few seconds, and in the background: a busy server does not hold up the training.
        """
        from mlflow.entities import Metric

        now = time.monotonic()
        waiting = self._epochs.setdefault(run_id, [])
        waiting.extend(Metric(name, float(value), int(time.time() * 1000), epoch) for name, value in values.items())
        if now - self._flushed.get(run_id, -math.inf) >= FLUSH_SECONDS or len(waiting) >= FLUSH_METRICS:
            batch = self._epochs.pop(run_id)
            tags = {**processes.sign_of_life(), "progress": progress}
            self._writing.setdefault(run_id, []).append(self._background.submit(self._write, run_id, batch, {}, tags))
            self._flushed[run_id] = now

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self.write(run_id, tags=tags)

    def tidy(self, run_id: str) -> None:
        """Delete the tags of a run that only told others whether its process lives; it must have ended.

        Who may not delete tags leaves them: they hurt nobody.
        """
        from mlflow.exceptions import MlflowException

        present = self._client.get_run(run_id).data.tags
        try:
            for name in present:
                if name.startswith(HOUSEKEEPING):
                    self._client.delete_tag(run_id, name)
        except MlflowException as error:
            LOGGER.debug("Tags of run %s stay: %s", run_id, error)

    def fail(self, run_id: str, status: str, reason: str) -> None:
        """Close a run as FAILED or KILLED with the reason."""
        self.tag(run_id, {"ended": reason[:4000]})
        self._client.set_terminated(run_id, status)

    def discard(self, run_id: str, reason: str) -> None:
        """Close and delete a run that is not needed after all; where only owners may delete, nothing asks for it."""
        from mlflow.exceptions import MlflowException

        self.fail(run_id, "KILLED", reason)
        self.tag(run_id, {"kind": DISCARDED})
        try:
            self._client.delete_run(run_id)
        except MlflowException as error:
            if error.error_code != "PERMISSION_DENIED":
                raise

    def write(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        steps: Iterable[tuple[str, float, int]] = (),
    ) -> None:
        """Write in one call, together with the epochs that wait, after those that are being written.

        `steps` are metrics with a step each: (name, value, step).
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for written in self._writing.pop(run_id, []):
            written.result()
        waiting = self._epochs.pop(run_id, [])
        values = [Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()]
        values += [Metric(name, float(value), now, step) for name, value, step in steps]
        self._write(run_id, [*waiting, *values], params or {}, tags or {})

    def history(self, run_id: str, metrics: list[Metric]) -> None:
        """Write values of metrics that were recorded before, each with its own time and step."""
        self._write(run_id, metrics, {}, {})

    def _write(self, run_id: str, metrics: list[Metric], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        while len(metrics) > FLUSH_METRICS:
            self._client.log_batch(run_id, metrics=metrics[:FLUSH_METRICS])
            metrics = metrics[FLUSH_METRICS:]
        self._client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def inputs(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Record the data sets that the digests among a run's tags name."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for name, context in (("data", "benchmark"), ("folds", "folds")):
            if f"{name}_digest" not in tags:
                continue
            # MLflow shows 36 characters of a digest; the tag holds all of it.
            digest = tags[f"{name}_digest"]
            dataset = Dataset(f"bus-{context}", digest[:36], "local", f'{{"uri": "data/{context}"}}')
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
        self._client.log_inputs(run_id, inputs)
