"""Trials as runs of a real ledger: failures, runs against what the journal says, and processes that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from made_once import store_in
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from projects import ROOT
from searching_process import PAPER, a_plan, comparable, deaths, search_in
from shared_server import VALUES, postgres

from bus_mlops.config import TrackingConfig
from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.failures import CellsFailedError
from bus_mlops.files import read_json
from bus_mlops.search.study_store import KEY
from bus_mlops.tracking.ledger import Ledger

Search = Callable[..., SearchResult]


@pytest.fixture
def tracking(tmp_path, empty_store) -> TrackingConfig:
    return store_in(tmp_path, empty_store)


@pytest.fixture
def search(tiny_data, tracking, tmp_path, monkeypatch) -> Search:
    """A function that searches, or goes on, with cells failing as it is told."""
    monkeypatch.chdir(tiny_data)

    def run(fails: Callable[[Cell], bool] = lambda cell: False, **settings: Any) -> SearchResult:
        return search_in(tiny_data, tracking, tmp_path / "studies", fails, a_plan(tiny_data, **settings))

    return run


def states(folder: Path) -> list[str]:
    journal = next((folder / "studies").glob("*.journal"))
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return [trial.state.name for trial in optuna.load_study(study_name=journal.stem, storage=storage).trials]


def is_papers(cell: Cell) -> bool:
    loss = cell.spec.training.loss.model_dump()
    return all(loss[path.removeprefix("loss.")] == value for path, value in PAPER.items())


def test_the_search_goes_on_without_a_trial_one_of_whose_cells_fails(search, tmp_path, caplog):
    result = search(lambda cell: is_papers(cell) and cell.fold == 2)
    assert [trial.state for trial in result.trials] == ["failed"] + ["complete"] * 5
    assert result.trials[0].reason == "fold 2: the loss diverged"
    assert result.choices[0].parameters != PAPER
    assert "the first trial failed" in result.choices[0].reason
    assert states(tmp_path) == ["FAIL"] + ["COMPLETE"] * 5
    assert "the loss diverged" in caplog.text
    assert "only-failed" not in caplog.text  # which knows of strategies, not of trials
    assert search(lambda cell: True) == result  # nothing is left to train


def test_what_the_journal_says_of_a_trial_is_compared_with_its_runs(search, tmp_path, tracking, caplog):
    result = search()
    journal = next((tmp_path / "studies").glob("*.journal"))
    value = result.trials[0].values[0]
    changed = journal.read_text().replace(f'\\"values\\": [{value}]', '\\"values\\": [0.125]', 1)
    assert changed != journal.read_text()
    journal.write_text(changed)
    ledger = Ledger(tracking)
    lost = result.trials[1].runs[0]
    ledger.writer.discard(lost, "forgotten")
    again = search()
    assert comparable(again) == comparable(result)
    assert f"trial 0 is {value} by its runs and 0.125 by the journal" in caplog.text
    before = {run_id for trial in result.trials for run_id in trial.runs}
    after = {run_id for trial in again.trials for run_id in trial.runs}
    assert len(after - before) == 1  # the run that was forgotten, and no other
    assert before - after == {lost}


def test_an_objective_of_which_less_is_better_is_minimised(search):
    result = search(objective="brier", standard_errors=0)
    choice = result.choices[0]
    assert choice.value == min(trial.values[0] for trial in result.trials) < choice.first_value
    weight = choice.parameters["loss.classification_weight"]
    assert weight == max(trial.parameters["loss.classification_weight"] for trial in result.trials)
    assert choice.value == pytest.approx(1 - weight / 10)


def test_when_nothing_can_be_trained_it_stops_and_begins_with_the_papers_parameters_again(search, tmp_path):
    with pytest.raises(CellsFailedError, match="8 of 8 runs of search tried failed"):
        search(lambda cell: True)
    assert states(tmp_path) == []
    done: list[Cell] = []

    def breaks_down(cell: Cell) -> bool:
        done.append(cell)
        return len(done) > 8

    with pytest.raises(CellsFailedError):
        search(breaks_down, trials=9)
    assert states(tmp_path) == ["COMPLETE"] * 4 + ["FAIL"] * 4
    result = search(trials=9)
    assert result.trials[0].parameters == PAPER
    assert [trial.state for trial in result.trials] == ["complete"] * 4 + ["failed"] * 4 + ["complete"] * 5
    failed = {str(trial.parameters) for trial in result.trials[4:8]}
    assert len(failed & {str(trial.parameters) for trial in result.trials[8:]}) < len(failed)


def start(data: Path, folder: Path, empty_store: Path, uri: str, cells: int, studies: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    if not (folder / "mlflow.db").exists():
        shutil.copy(empty_store, folder / "mlflow.db")
    script = str(ROOT / "tests" / "helpers" / "searching_process.py")
    arguments = [str(data), str(folder), str(studies), uri, str(folder / "best.json"), str(cells)]
    return subprocess.Popen([sys.executable, script, *arguments], env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PGPASSWORD": VALUES["POSTGRES_PASSWORD"]}


@pytest.mark.slow
def test_processes_that_are_killed_leave_the_result_of_one_that_is_not(tiny_data, empty_store, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    assert start(tiny_data, undisturbed, empty_store, "", 10**6, tmp_path / "a").wait(300) == 0
    killed, ends = tmp_path / "killed", []
    for cells in deaths(3):
        ends.append(start(tiny_data, killed, empty_store, "", cells, tmp_path / "b").wait(300))
        if ends[-1] != -signal.SIGKILL:
            break
    assert ends[-1] == 0
    assert len(ends) > 2
    assert (killed / "best.json").read_bytes() == (undisturbed / "best.json").read_bytes()


@pytest.mark.slow
def test_two_processes_share_the_studies_of_a_server(tiny_data, empty_store, tmp_path, monkeypatch):
    """Each with a ledger of its own, so that neither waits for the other's cells; one is killed, and begins again."""
    import psycopg

    monkeypatch.setenv("PGPASSWORD", VALUES["POSTGRES_PASSWORD"])
    undisturbed = tmp_path / "undisturbed"
    alone = start(tiny_data, undisturbed, empty_store, "", 10**6, tmp_path / "journals")
    with postgres() as port:
        with psycopg.connect(host="127.0.0.1", port=port, user="bus", dbname="postgres", autocommit=True) as database:
            database.execute("CREATE DATABASE optuna")
        uri = f"postgresql+psycopg://bus@127.0.0.1:{port}/optuna"
        folders = [tmp_path / "one", tmp_path / "two"]
        both = [start(tiny_data, folder, empty_store, uri, 10**6, tmp_path) for folder in folders[:1]]
        both.append(start(tiny_data, folders[1], empty_store, uri, 5, tmp_path))
        assert both[1].wait(300) == -signal.SIGKILL
        both[1] = start(tiny_data, folders[1], empty_store, uri, 10**6, tmp_path)
        assert [process.wait(300) for process in both] == [0, 0]
        studies = optuna.storages.RDBStorage(uri)
        for study in optuna.get_all_study_names(studies):
            kept = optuna.load_study(study_name=study, storage=studies).trials
            numbers = {json.loads(trial.user_attrs[KEY])["trial"]["number"] for trial in kept}
            assert numbers == set(range(6))
        studies.remove_session()
    assert alone.wait(300) == 0
    results = [read_json(folder / "best.json") for folder in (undisturbed, *folders)]
    assert results[0] == results[1] == results[2]
