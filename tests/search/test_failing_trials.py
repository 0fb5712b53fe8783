"""A trial that cannot be trained is a failed trial; the search goes on without it, unless nothing can be trained."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from made_once import store_in
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bus_mlops.config import SearchConfig, TrackingConfig
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines.base import OnEvent
from bus_mlops.experiments.failures import CellsFailedError
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.project import load_config
from bus_mlops.search.loss_weights import PAPER, search_loss_weights
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import PREDICTIONS, Ledger

SEARCH = SearchConfig(trials=5, folds=(1, 2), objective="balanced_accuracy")


def called_right(images: int) -> pd.DataFrame:
    """Validation predictions of 80 images, of which so many are called right: a balanced accuracy of images / 80."""
    label = np.arange(80) % 2
    probability = np.where(np.arange(80) < images, label, 1 - label)
    return pd.DataFrame({"part": "validation", "label": label, "probability": probability.astype(float)})


class Recorder:
    """An engine that records a result for each cell instead of training it, but for those that `fails` names."""

    def __init__(self, ledger: Ledger, job: Job, fails: Callable[[Cell], bool]) -> None:
        self._ledger = ledger
        self._job = job
        self._fails = fails

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

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
        metrics = {"sensitivity": 0.5, "specificity": 0.5, "seconds_training": 1.0}
        with tempfile.TemporaryDirectory() as folder:
            called_right(round(8 * weight)).to_csv(Path(folder) / PREDICTIONS, index=False)
            self._ledger.finish(run_id, metrics, Path(folder), {})
        return CellEvent("finished", *cell.key, run_id=run_id, values=metrics)


@pytest.fixture
def search(tiny_data, empty_store, tmp_path, monkeypatch):
    """A function that searches, or goes on, with cells failing as it is told."""
    monkeypatch.chdir(tiny_data)
    config = load_config(tiny_data / "params.yaml")
    tracking = store_in(tmp_path, empty_store)
    job = Job(tiny_data, tiny_data, tracking, tmp_path, None, threads=1, driver="test")

    def run(fails: Callable[[Cell], bool], settings: SearchConfig = SEARCH) -> dict[str, Any]:
        ledger = Ledger(tracking)
        runner = Runner(config, ledger, Recorder(ledger, job, fails), job)
        spec = make_spec(config, "mt_estan", "multitask")
        return search_loss_weights(runner, spec, settings, tmp_path / "studies")

    return run


def states(folder: Path) -> list[str]:
    journal = next((folder / "studies").glob("*.journal"))
    name = journal.stem
    study = optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(journal))))
    return [trial.state.name for trial in study.trials]


def is_papers(cell: Cell) -> bool:
    loss = cell.spec.training.loss
    return all(getattr(loss, name) == value for name, value in PAPER.items())


def test_the_search_goes_on_without_a_trial_one_of_whose_cells_fails(search, tmp_path, caplog):
    report = search(lambda cell: is_papers(cell) and cell.fold == 2)
    assert report["trials"] == 5
    assert PAPER not in [{name: trial.get(name) for name in PAPER} for trial in report["history"]]
    assert states(tmp_path) == ["PRUNED"] + ["COMPLETE"] * 5
    printed = caplog.text
    assert "the loss diverged" in printed
    assert "only-failed" not in printed  # which knows of strategies, not of trials
    assert search(lambda cell: True) == report  # nothing is left to train


def test_what_the_journal_says_of_a_trial_is_compared_with_its_runs(search, tmp_path, caplog):
    report = search(lambda cell: False)
    journal = next((tmp_path / "studies").glob("*.journal"))
    changed = journal.read_text().replace(f'"values":[{report["value"]}]', '"values":[0.125]')
    assert changed != journal.read_text()
    journal.write_text(changed)
    ledger = Ledger(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "artifacts")))
    lost = next(iter(ledger.finished().values()))
    ledger.writer.discard(lost, "forgotten")
    before = set(ledger.finished().values())
    assert search(lambda cell: False) == report
    assert "by its runs and 0.125 by the journal" in caplog.text
    assert len(set(ledger.finished().values()) - before) == 1  # the run that was forgotten, and no other


def test_an_objective_of_which_less_is_better_is_minimised(search):
    report = search(lambda cell: False, SEARCH.model_copy(update={"objective": "brier"}))
    values = [trial["value"] for trial in report["history"]]
    assert report["value"] == min(values) < max(values)
    weight = report["best"]["classification_weight"]
    assert weight == max(trial["classification_weight"] for trial in report["history"])
    assert report["value"] == pytest.approx(1 - weight / 10)


def test_a_loss_that_fails_in_a_batch_of_its_own_is_not_proposed_for_ever(search, tmp_path):
    """Four trials work, the fifth fails once with all that is like it."""
    failed: list[float] = []

    def fails(cell: Cell) -> bool:
        weight = cell.spec.training.loss.classification_weight
        if (len(failed) < 2 and len(list((tmp_path / "artifacts").glob("*/*"))) >= 8) or weight in failed:
            failed.append(weight)
            return True
        return False

    report = search(fails)
    assert report["trials"] == 5
    assert sorted(states(tmp_path)) == ["COMPLETE"] * 5 + ["PRUNED"] * (len(states(tmp_path)) - 5)
    assert failed
    assert not set(failed) & {trial["classification_weight"] for trial in report["history"]}


def test_failures_without_end_end_the_search(search, tmp_path):
    with pytest.raises(CellsFailedError):
        search(lambda cell: len(list((tmp_path / "artifacts").glob("*/*"))) >= 8)
    assert states(tmp_path) == ["COMPLETE"] * 4 + ["PRUNED"] * 4


def test_when_nothing_can_be_trained_it_stops_and_begins_with_the_papers_weights_again(search, tmp_path):
    with pytest.raises(CellsFailedError, match="8 of 8 runs of search failed"):
        search(lambda cell: True)
    assert states(tmp_path) == ["FAIL"] * 4
    report = search(lambda cell: False)
    assert report["history"][0].items() >= PAPER.items()
    assert report["trials"] == 5
