"""A search on a real ledger whose cells are recorded instead of trained, in this process or in one that is killed."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recorded_trials import called_right, plan_of
from without_workers import WithoutWorkers

from bus_mlops.config import TrackingConfig
from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines.base import OnEvent
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.search_plan import SearchPlan
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.files import write_json
from bus_mlops.project import load_config
from bus_mlops.search.study import run_search
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import EPOCHS_TRAINED, PREDICTIONS, Ledger

SPACE: dict[str, Any] = {
    "loss.classification_weight": {"low": 0.5, "high": 5, "step": 0.25},
    "loss.positive_weight": {"low": 1, "high": 5, "step": 0.25},
}
PAPER = {"loss.classification_weight": 3.0, "loss.positive_weight": 3.0}


class Recorder(WithoutWorkers):
    """An engine that records a result for each cell instead of training it, but for those that `fails` names."""

    def __init__(self, ledger: Ledger, job: Job, fails: Callable[[Cell], bool]) -> None:
        self._ledger = ledger
        self._job = job
        self._fails = fails

    def run(self, cells: Sequence[Cell], on_event: OnEvent) -> dict[LedgerKey, CellEvent]:
        done = {cell.key: self._record(cell) for cell in cells}
        for event in done.values():
            on_event(event)
        return done

    def _record(self, cell: Cell) -> CellEvent:
        if self._fails(cell):
            return CellEvent("failed", *cell.key, message="the loss diverged")
        run_id = self._ledger.start(cell.parent_run, cell.run_name, cell.spec, self._job.run_tags(cell))
        weight = cell.spec.training.loss.classification_weight
        metrics = {
            "sensitivity": 0.5,
            "specificity": 0.5,
            "seconds_training": 1.0,
            EPOCHS_TRAINED: float(cell.spec.training.epochs),
        }
        with tempfile.TemporaryDirectory() as folder:
            called_right(round(8 * weight)).to_csv(Path(folder) / PREDICTIONS, index=False)
            self._ledger.finish(run_id, metrics, Path(folder), {})
        return CellEvent("finished", *cell.key, run_id=run_id, values=metrics)


def a_plan(data: Path, **settings: Any) -> SearchPlan:
    """The search of two paths of MT-ESTAN, on two folds."""
    config = load_config(data / "params.yaml")
    usual = {"space": SPACE, "trials": 5, "objective": "balanced_accuracy", "nested": False}
    plan = plan_of(make_spec(config, "mt_estan", "multitask"), PAPER, folds=(1, 2), **{**usual, **settings})
    if plan.settings.nested:
        return plan
    return plan.model_copy(update={"settings": plan.settings.model_copy(update={"folds": (1, 2)})})


def search_in(
    data: Path, tracking: TrackingConfig, studies: Path, fails: Callable[[Cell], bool], plan: SearchPlan
) -> SearchResult:
    """Search, or go on, on a store; the working folder is `data`."""
    config = load_config(data / "params.yaml").model_copy(update={"tracking": tracking})
    job = Job(data, data / "data/folds/folds.csv", tracking, studies, None, threads=1, driver=f"test-{os.getpid()}")
    ledger = Ledger(tracking)
    ledger.reconcile(alone=True)
    return run_search(Runner(config, ledger, Recorder(ledger, job, fails), job), plan, studies)


def comparable(result: SearchResult) -> dict[str, Any]:
    """A result without what differs between two stores: the ids of runs, and what was trained after the last stop."""
    values = result.model_dump(mode="json")
    for trial in values["trials"]:
        del trial["runs"], trial["epochs"]
    return values


def deaths(seed: int) -> Iterator[int]:
    """After how many cells a process dies, from one start to the next."""
    rng = np.random.default_rng(seed)
    return (int(number) for number in itertools.chain(rng.integers(0, 6, size=4), itertools.repeat(10**6)))


def main() -> None:
    """Search as a process: DATA STORE STUDIES URI RESULT CELLS, killed by SIGKILL at the cell after so many."""
    data, store, studies, uri, result, cells = sys.argv[1:]
    os.chdir(data)
    left = int(cells)

    def fails(cell: Cell) -> bool:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return False

    tracking = TrackingConfig(uri=f"sqlite:///{store}/mlflow.db", artifacts=f"{store}/artifacts", studies=uri or None)
    found = search_in(Path(data), tracking, Path(studies), fails, a_plan(Path(data), nested=True, trials=6))
    write_json(Path(result), comparable(found))


if __name__ == "__main__":
    main()
