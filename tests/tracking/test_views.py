"""Saved views: who writes, what stays, and that MLflow takes them and finds runs by their filters."""

from __future__ import annotations

import json

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from bus_mlops.promotion import mlflow_pages
from bus_mlops.promotion.mlflow_pages import write_pages
from bus_mlops.tracking import views
from bus_mlops.tracking.kinds import NOTE
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.views import View


def test_a_view_is_written_once_and_what_others_wrote_stays(monkeypatch):
    view = View("board", "Board", {"searchFilter": "a"})
    first = view.value(None) or ""
    assert json.loads(json.loads(first)["state"]) == {"searchFilter": "a"}
    assert view.value(first) is None
    changed = View("board", "Board", {"searchFilter": "b"}).value(first) or ""
    assert json.loads(changed)["createdAt"] == json.loads(first)["createdAt"]
    edited = {**json.loads(first), "state": json.dumps({"searchFilter": "mine"})}
    assert view.value(json.dumps(edited)) is None
    assert view.value(json.dumps({"name": "a user's", "state": "{}"})) is None
    monkeypatch.setattr(views, "REVISION", views.REVISION - 1)
    assert View("board", "Board", {"searchFilter": "of an earlier version"}).value(changed) is None


def test_the_store_of_a_project_is_furnished_once(store):
    """Views, notes, and the rows of an earlier version; whatever a second writer does, nothing changes."""
    tracking = store.config.tracking
    client, experiment = store.ledger.client, store.ledger.experiment
    for run in store.ledger.runs("tags.kind = 'spec'"):
        client.set_tag(run.info.run_id, "folds_finished", "1, 2")
        client.set_terminated(run.info.run_id)
    links = dict(write_pages(tracking).pages)
    first = client.get_experiment(experiment).tags
    assert links.keys() >= {"Leaderboard", "Learning curves", "Outlines", "Registered models"}
    write_pages(tracking)
    assert client.get_experiment(experiment).tags == first
    shown = [json.loads(json.loads(value)["state"]) for name, value in first.items() if name.startswith(views.PREFIX)]
    found = {state["searchFilter"]: len(client.search_runs([experiment], state["searchFilter"])) for state in shown}
    assert found["tags.strategy LIKE '%' and metrics.`test/folds` > 0"] == 6
    assert found["tags.kind = 'trial' and tags.`search.name` = 'mt_estan_loss'"] == 4
    board = next(state for state in shown if "test/folds" in state["searchFilter"])
    listed = client.search_runs([experiment], board["searchFilter"], order_by=[f"{board['orderByKey']} DESC"])
    assert "test/roc_auc" in listed[0].data.metrics
    client.set_experiment_tag(experiment, NOTE, "mine")
    write_pages(tracking)
    assert client.get_experiment(experiment).tags[NOTE] == "mine"


def test_a_search_whose_space_is_one_point_has_no_view(store):
    client, experiment = store.ledger.client, store.ledger.experiment
    for name, said in [("hasty", "2"), ("longer", "2, 30"), ("rates", "0.001 to 0.1 on a logarithmic scale")]:
        run = client.create_run(experiment, tags={"kind": "search", "search.name": name})
        client.log_param(run.info.run_id, "space epochs", said)
    named = dict(write_pages(store.config.tracking).pages)
    assert {"Search longer", "Search rates"} <= named.keys()
    assert "Search hasty" not in named


def test_an_account_that_may_only_read_is_shown_the_pages(store, monkeypatch):
    def refuse(*_):
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(mlflow_pages, "write_page", refuse)
    found = write_pages(store.config.tracking)
    assert (dict(found.pages)["Registered models"], found.unwritten) == ("/#/models", "Permission denied")
    assert Ledger(store.config.tracking).experiment == store.ledger.experiment
