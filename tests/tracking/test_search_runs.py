"""What MLflow shows of a search: a run of it, a child a trial, written once however often it is told."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from made_once import store_in
from searched import make_result, study, tell

from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.tracking.kinds import NOTE
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.run_files import digests_of
from bus_mlops.tracking.search_runs import SearchRuns
from bus_mlops.tracking.trial_runs import PARENT, recorded_trials
from bus_mlops.tracking.views import page_of

FIGURES = "bus_mlops.evaluation.report.search_figures.search_figures"
STATES = {1: "pruned", 4: "failed"}
RESULT = make_result(folds=(1, 2), trials=5, state=lambda number: STATES.get(number, "complete"))


@pytest.fixture
def tracking(tmp_path, empty_store):
    return store_in(tmp_path, empty_store)


@pytest.fixture
def quickly_drawn(monkeypatch):
    """Drawing takes longer than all else."""
    monkeypatch.setattr(FIGURES, lambda result, network: {"history": f"{len(result.trials)} trials".encode()})


def everything(ledger: Ledger) -> dict[str, Any]:
    """All runs that there are, as they are."""
    return {
        run.info.run_id: (run.info.run_name, run.info.status, run.data.params, run.data.metrics, run.data.tags)
        for run in ledger.runs("")
    }


def states(ledger: Ledger) -> dict[str, SearchResult]:
    """Each `best.json` of the one search that there is, by its name and in their order."""
    (parent,) = ledger.runs("tags.kind = 'search'")
    found = {}
    for name in sorted(name for name in digests_of(parent) if name.endswith("best.json")):
        with tempfile.TemporaryDirectory() as folder:
            text = ledger.artifact(parent.info.run_id, name, Path(folder)).read_text()
        found[name] = SearchResult.model_validate(json.loads(text))
    return found


def test_a_search_is_a_run_with_a_child_for_each_trial(tracking):
    ledger = Ledger(tracking)
    tell(ledger, RESULT)
    (parent,) = ledger.runs("tags.kind = 'search'")
    assert (parent.info.run_name, parent.info.status) == ("mt_estan_loss: MT_ESTAN", "FINISHED")
    trials = ledger.runs("tags.kind = 'trial'")
    assert len(trials) == 10
    assert {run.data.tags[PARENT] for run in trials} == {parent.info.run_id}
    told = {(run.data.tags["search.fold"], run.data.tags["trial.number"]): run for run in trials}
    for (_, number), run in told.items():
        state = STATES.get(int(number), "complete")
        assert run.data.tags["trial.state"] == state
        assert run.info.status == {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[state]
    focal, first = told["2", "2"], RESULT.trials[0]
    assert focal.info.run_name == "fold 2, trial 2: classification weight 1.5, focal, gamma 1.25, alpha 0.25"
    assert focal.data.params == {"classification weight": "1.5", "kind": "focal", "gamma": "1.25", "alpha": "0.25"}
    assert told["1", "0"].data.metrics["validation/roc_auc"] == first.values[0]
    steps = ledger.client.get_metric_history(told["1", "0"].info.run_id, "steps/roc_auc")
    assert [(each.step, each.value) for each in steps] == [(1, first.steps[0]), (2, first.steps[1])]
    assert told["1", "0"].data.tags["trial.runs"] == first.runs[0]
    assert told["1", "4"].data.tags[NOTE] == "Failed: the loss diverged"
    assert f"/runs/{first.runs[0]}?" in told["1", "0"].data.tags[NOTE]
    best = ledger.client.get_metric_history(parent.info.run_id, "best/fold 1")
    assert [each.value for each in best] == sorted(each.value for each in best)

    choice = RESULT.choices[1]
    chosen = ledger.client.get_metric_history(parent.info.run_id, "chosen/value")
    assert [(each.step, each.value) for each in chosen] == [(each.fold, each.value) for each in RESULT.choices]
    assert parent.data.tags["chosen.fold 2"].startswith(
        f"classification weight {choice.parameters['loss.classification_weight']:g}"
    )
    assert f"| fold 2 | {parent.data.tags['chosen.fold 2']} ([trial {choice.trial}](#/" in parent.data.tags[NOTE]
    (stored,) = states(ledger)
    assert {name.removeprefix(f"{Path(stored).parent}/") for name in digests_of(parent)} == {
        "best.json",
        *(f"figures/{name}.png" for name in ("history", "importances", "parallel-coordinates", "slices")),
    }
    assert states(ledger)[stored] == RESULT


def test_a_search_that_is_killed_resumed_and_repeated_has_each_run_once(tracking, quickly_drawn):
    tell(Ledger(tracking), RESULT, trials=2, end=False)
    ledger = Ledger(tracking)
    (parent,) = ledger.runs("tags.kind = 'search'")
    assert parent.info.status == "SCHEDULED"
    killed = ledger.runs("tags.kind = 'trial'")[0]
    # A kill between the calls that open, write and close a run.
    ledger.client.update_run(killed.info.run_id, status="RUNNING")
    assert len(ledger.reconcile()) == 1  # as any training does before it begins
    tell(Ledger(tracking), RESULT)
    once = everything(ledger)
    assert len(once) == 11
    assert {status for _, status, *_ in once.values()} == {"FINISHED", "KILLED", "FAILED"}
    assert once.keys() > {parent.info.run_id, killed.info.run_id}
    tell(Ledger(tracking), RESULT)
    assert everything(ledger) == once


def test_a_search_that_went_on_keeps_what_it_left_before(tracking, quickly_drawn):
    few = make_result(folds=(1,), trials=3)
    more = make_result(folds=(1,), trials=5)
    ledger = Ledger(tracking)
    for result, count in ((few, 3), (more, 5), (few, 3)):  # what it asks for no longer is no trial of it
        tell(Ledger(tracking), result)
        assert len(ledger.runs("tags.kind = 'trial'")) == count
    assert list(states(ledger).values()) == [few, more]


def test_two_drivers_that_end_at_once_keep_what_each_has_left(tracking, quickly_drawn, monkeypatch):
    ours = make_result(folds=(1,), trials=3)
    theirs = ours.model_copy(update={"trials": tuple(t.model_copy(update={"epochs": 0}) for t in ours.trials)})
    tell(Ledger(tracking), ours, end=False)
    ledger = Ledger(tracking)
    (before,) = ledger.runs("tags.kind = 'search'")
    tell(ledger, ours)
    monkeypatch.setattr(ledger.client, "get_run", lambda run_id: before)  # neither sees what the other leaves
    tell(ledger, theirs)
    monkeypatch.undo()
    assert list(states(ledger).values()).count(ours) == list(states(ledger).values()).count(theirs) == 1


def test_a_study_that_was_lost_and_begun_anew_takes_the_numbers_over(tracking, quickly_drawn):
    tell(Ledger(tracking), RESULT)
    other = make_result(folds=(1, 2), trials=5, parameters=lambda number: {"dropout": number / 10})
    tell(Ledger(tracking), other)
    trials = Ledger(tracking).runs("tags.kind = 'trial'")
    assert [run.data.params.keys() for run in trials] == [{"dropout"}] * 10


def test_two_networks_are_two_runs_and_the_tuned_row_is_a_child(tracking, quickly_drawn):
    ledger = Ledger(tracking)
    tell(ledger, make_result(folds=(1,), trials=2, networks=("vgg16", "mobilenet")))
    parents = {run.data.tags["network"]: run.info.run_id for run in ledger.runs("tags.kind = 'search'")}
    assert parents.keys() == {"vgg16", "mobilenet"}
    cells = {}
    for fold, value in ((1, 0.8), (2, 0.9)):
        run = ledger.client.create_run(ledger.experiment, run_name=f"VGG16 / fold {fold}")
        ledger.writer.write(run.info.run_id, metrics={"roc_auc": value, "loss": 0.3})
        cells[fold] = run.info.run_id
    made = SearchRuns(ledger).tuned("mt_estan_loss", "vgg16", cells)
    assert SearchRuns(ledger).tuned("mt_estan_loss", "vgg16", cells) == made
    tuned = ledger.client.get_run(made)
    assert (tuned.info.status, tuned.data.tags[PARENT]) == ("FINISHED", parents["vgg16"])
    assert tuned.data.metrics == {"test/roc_auc": 0.85, "test/folds": 2, "folds/roc_auc": 0.9}
    assert tuned.data.tags["strategy"] == "tuned-mt_estan_loss"
    assert f"| [fold 2]({page_of(ledger.experiment, cells[2])}) | 0.900 |" in tuned.data.tags[NOTE]
    assert SearchRuns(ledger).tuned("unheard_of", "vgg16", cells) == ""


def test_trials_are_read_back_as_they_were_told(tracking, tmp_path):
    searches = {"mt_estan_loss": study(RESULT, "mt_estan", 1).plan.settings}
    nowhere = tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/none.db"})
    assert recorded_trials(nowhere, searches) == recorded_trials(tracking, searches) == {"mt_estan_loss": []}
    told = make_result(folds=(1,), trials=5, state=lambda n: STATES.get(n, "complete"), constraint={"sensitivity": 0.9})
    tell(Ledger(tracking), told, end=False)
    found = [each.trial for each in recorded_trials(tracking, searches)["mt_estan_loss"]]
    assert recorded_trials(tracking, {**searches, "another": searches["mt_estan_loss"]})["another"] == []
    named = ("fold", "number", "state", "values", "constraints", "epochs", "runs", "reason")
    assert [[getattr(each, name) for name in named] for each in found] == [
        [getattr(each, name) for name in named] for each in told.trials
    ]
    assert found[2].parameters == {"classification weight": 1.5, "kind": "focal", "gamma": 1.25, "alpha": 0.25}
