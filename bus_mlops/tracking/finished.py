"""Reading, and only reading, the finished cells of the store, trials too: for commands that create nothing in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bus_mlops.config import TrackingConfig
from bus_mlops.files import sqlite_file
from bus_mlops.spec import LedgerKey, network_title
from bus_mlops.tracking.kinds import CELLS, TRIED, kind_of
from bus_mlops.tracking.ledger import key_of
from bus_mlops.tracking.search import search_all
from bus_mlops.tracking.store import open_client

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class RecordedRun:
    """A finished cell: its fingerprint and fold, what was trained, and training images per second, if recorded.

    One that was only `tried` has no test predictions yet, which take no training.
    """

    fingerprint: str
    fold: int
    network: str
    input_size: int
    images_per_second: float | None
    tried: bool = False

    @property
    def key(self) -> LedgerKey:
        """What the ledger knows the cell by."""
        return LedgerKey(self.fingerprint, self.fold)


def finished_runs(tracking: TrackingConfig) -> list[RecordedRun]:
    """The finished cells of the configured experiment; none where the store or the experiment is not there yet.

    Raises:
        LedgerError: A store that should be there cannot be reached.
    """
    file = sqlite_file(tracking.uri)
    if file is not None and not file.exists():
        return []
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        return []
    queries = (f"attributes.status = 'FINISHED' and tags.kind = '{kind}'" for kind in CELLS)
    runs = (run for query in queries for run in search_all(client, experiment.experiment_id, query))
    return [_recorded(run, key) for run in runs if (key := key_of(run)) is not None]


def _recorded(run: Run, key: LedgerKey) -> RecordedRun:
    parameters = run.data.params
    options = {k.removeprefix("options."): v for k, v in parameters.items() if k.startswith("options.")}
    return RecordedRun(
        fingerprint=key.fingerprint,
        fold=key.fold,
        network=network_title(parameters["network"], options),
        input_size=int(parameters["training.input_size"]),
        images_per_second=run.data.metrics.get("images_per_second"),
        tried=kind_of(run) == TRIED,
    )
