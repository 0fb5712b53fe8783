"""The ledger on a real SQLite store: what is finished stays finished, what died is closed, locks are explained."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from made_once import store_in
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.config import CrossEntropy, Focal, Nadam, Sgd, TrackingConfig
from bus_mlops.errors import LedgerError
from bus_mlops.evaluation.intervals import mean_of_folds_interval
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking import parents, patience
from bus_mlops.tracking.ledger import PREDICTIONS, Ledger

TAGS = {"fingerprint": "f" * 64, "data_digest": "d" * 64, "folds_digest": "e" * 64}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("store")
    return store_in(folder, empty_store)


@pytest.fixture
def ledger(tracking, request):
    return Ledger(tracking.model_copy(update={"experiment": request.node.name}))


def start(ledger, spec, fold=1, fingerprint="f" * 64):
    parent = ledger.parents.find_or_create(spec, fingerprint, "title", {})
    return parent, ledger.start(parent, "title", spec, {**TAGS, "fingerprint": fingerprint, "fold": str(fold)})


def test_a_cell_from_start_to_finish(ledger, demo, tmp_path):
    spec = make_spec(demo, "mobilenet", "all")
    parent, run_id = start(ledger, spec)
    assert ledger.finished() == {}
    ledger.writer.epoch(run_id, 1, {"loss": 0.7, "validation_loss": 0.8})
    ledger.writer.epoch(run_id, 2, {"loss": 0.5, "validation_loss": 0.6})
    frame = pd.DataFrame({"image_id": ["busi/a"], "probability": [1 / 3]})
    frame.to_csv(tmp_path / PREDICTIONS, index=False)
    ledger.finish(run_id, {"roc_auc": 0.9}, tmp_path, {})
    assert ledger.finished() == {("f" * 64, 1): run_id}
    pd.testing.assert_frame_equal(ledger.predictions(run_id), frame)
    run = ledger.client.get_run(run_id)
    assert run.data.params["training.optimizer.name"] == "adam"
    assert {i.dataset.name for i in run.inputs.dataset_inputs} == {"bus-benchmark", "bus-folds"}
    history = ledger.client.get_metric_history(run_id, "validation_loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.8), (2, 0.6)]
    assert parent == ledger.parents.find_or_create(spec, "f" * 64, "title", {"strategy.losses": "row"})
    assert ledger.client.get_run(parent).data.tags["strategy.losses"] == "row"


def test_a_spec_can_be_read_back_from_its_run(ledger, demo):
    networks = (("mobilenet", "all"), ("mt_estan", "multitask"), ("estan", "multitask"))
    specs = [make_spec(demo, name, cohort) for name, cohort in networks]
    options = {"width": 0.0625, "encoder": "mobilenet", "flag": True, "depth": 3}
    specs.append(specs[1].model_copy(update={"options": options, "code": "a" * 64, "seed": 5}))
    for number, spec in enumerate(specs):
        parent, run_id = start(ledger, spec, fingerprint=str(number))
        assert ledger.spec(parent) == ledger.spec(run_id) == spec
    ledger.writer.write(parent, params={"training.unheard_of": "1"})
    with pytest.raises(LedgerError, match=f"parameters of run {parent} are not those of this version"):
        ledger.spec(parent)


@pytest.mark.parametrize(
    ("changes", "without_effect"),
    [
        ({"loss": CrossEntropy(positive_weight=3)}, {"loss.gamma": "2.0", "loss.alpha": "0.25"}),
        ({"loss": Focal(gamma=3, alpha=0.8)}, {"loss.positive_weight": "1.0"}),
        ({"optimizer": Nadam()}, {"optimizer.momentum": "0.9", "loss.gamma": "2.0", "loss.alpha": "0.25"}),
        ({"optimizer": Sgd(momentum=0.5)}, {"loss.gamma": "2.0", "loss.alpha": "0.25"}),
    ],
)
def test_runs_that_recorded_fields_of_another_kind_can_be_read(ledger, demo, changes, without_effect):
    spec = make_spec(demo, "mobilenet", "all", **changes)
    parent, _ = start(ledger, spec)
    for name, value in without_effect.items():
        ledger.client.log_param(parent, f"training.{name}", value)
    assert ledger.spec(parent) == spec


def test_drivers_that_plan_the_same_at_the_same_time_have_one_parent_run(tracking, demo, monkeypatch, request):
    monkeypatch.setattr(parents, "FEW", 0)  # all parent runs are asked for at once, before the others are made
    first, second = (Ledger(tracking.model_copy(update={"experiment": request.node.name})) for _ in range(2))
    spec = make_spec(demo, "mobilenet", "all")
    second.parents.find_or_create(spec, "a" * 64, "title", {})
    made = first.parents.find_or_create(spec, "b" * 64, "title", {"strategy.losses": "row"})
    assert second.parents.find_or_create(spec, "b" * 64, "title", {"strategy.optimizers": "row"}) == made
    assert first.client.get_run(made).data.tags.keys() >= {"strategy.losses", "strategy.optimizers"}
    assert [run.info.run_id for run in first.runs(f"tags.fingerprint = '{'b' * 64}'")] == [made]


def test_a_finished_run_whose_files_are_gone_is_explained(ledger, demo, tmp_path):
    _, run_id = start(ledger, make_spec(demo, "mobilenet", "all"))
    (tmp_path / PREDICTIONS).write_text("fold\n1\n")
    ledger.finish(run_id, {"roc_auc": 0.9}, tmp_path, {})
    ledger.discard_artifacts(run_id)
    with pytest.raises(LedgerError, match=f"{run_id}.*predictions.csv is missing.*nothing is at all.*bus-mlops repair"):
        ledger.predictions(run_id)


def test_the_parent_holds_means_and_folds_as_steps(ledger, tracking, request, demo, tmp_path):
    spec = make_spec(demo, "mobilenet", "all")
    for fold, value in ((1, 0.8), (2, 0.9)):
        parent, run_id = start(ledger, spec, fold)
        ledger.finish(run_id, {"roc_auc": value}, tmp_path, {})
    assert not ledger.parents.is_summarised("f" * 64, (1, 2))
    ledger.parents.summarise(parent, "f" * 64, (1, 2))
    assert ledger.parents.is_summarised("f" * 64, (1, 2))
    assert not ledger.parents.is_summarised("f" * 64, (1, 2, 3))
    run = ledger.client.get_run(parent)
    assert (run.data.metrics["test/roc_auc"], run.data.metrics["test/folds"]) == (0.85, 2)
    steps = ledger.client.get_metric_history(parent, "folds/roc_auc")
    assert [(each.step, each.value) for each in steps] == [(1, 0.8), (2, 0.9)]
    assert run.info.status == "FINISHED"
    anew = Ledger(tracking.model_copy(update={"experiment": request.node.name}))
    anew.parents.find_or_create(spec, "f" * 64, "title", {})
    assert anew.parents.is_summarised("f" * 64, (1, 2))


def test_the_parent_holds_the_intervals_that_tables_have(ledger, demo, tmp_path):
    rng, of_run = np.random.default_rng(0), {}
    for fold in (1, 2):
        parent, run_id = start(ledger, make_spec(demo, "mobilenet", "all"), fold)
        ledger.finish(run_id, {"roc_auc": 0.8}, tmp_path, {})
        frame = pd.DataFrame(
            {"part": "test", "label": np.arange(60) % 2, "group": np.arange(60) // 4, "source": "busi"}
        )
        of_run[run_id] = frame.assign(probability=0.3 * frame["label"] + 0.7 * rng.random(60))
    written = ledger.parents.summarise(parent, "f" * 64, (1, 2), predictions=of_run.__getitem__)
    metrics = ledger.client.get_run(parent).data.metrics
    for name in ("roc_auc", "sensitivity", "calibration_slope"):
        table = mean_of_folds_interval(
            name, pd.concat(each.assign(fold=fold) for fold, each in enumerate(of_run.values(), 1))
        )
        ends = metrics[f"test/{name}_low"], metrics[f"test/{name}_high"]
        assert ends == (round(table.low, 4), round(table.high, 4))  # what people read has no further digits
    assert "test/dice_low" not in written  # there are no masks
    assert {"source/busi/roc_auc", "source/busi/sensitivity"} <= written.keys()
    assert [each.path for each in ledger.client.list_artifacts(parent, "figures")] == ["figures/test.png"]


def _die_while_running(tracking, experiment, values):
    from bus_mlops.project import parse_config

    ledger = Ledger(tracking.model_copy(update={"experiment": experiment}))
    start(ledger, make_spec(parse_config(values), "mobilenet", "all"))
    os._exit(9)


def test_a_run_whose_process_died_is_closed_and_a_living_one_is_not(
    ledger, demo, demo_values, tracking, request, tmp_path, monkeypatch
):
    _, mine = start(ledger, make_spec(demo, "mobilenet", "all"), fold=2)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_die_while_running, args=(tracking, request.node.name, demo_values))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    project = tmp_path
    values = {**demo_values, "tracking": {**tracking.model_dump(), "experiment": request.node.name}}
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["reconcile"])
    assert done.exit_code == 0, done.output
    assert f"closed title (process {process.pid} on " in done.output
    assert "1 runs closed; 1 runs are at work" in done.output
    assert ledger.client.get_run(mine).info.status == "RUNNING"
    killed = ledger.runs("attributes.status = 'KILLED'")
    assert "process died" in killed[0].data.tags["ended"]
    assert ledger.reconcile() == []
    # Who holds the lock of the store knows that nobody lives, whatever a tag says.
    assert len(ledger.reconcile(alone=True)) == 1
    assert ledger.client.get_run(mine).info.status == "KILLED"


def test_epochs_are_written_together_and_none_is_lost(ledger, demo, tmp_path):
    _, run_id = start(ledger, make_spec(demo, "mobilenet", "all"))
    for epoch in range(1, 1501):  # more than MLflow takes in a call
        ledger.writer.epoch(run_id, epoch, {"loss": 1 / epoch}, f"epoch {epoch} of 1500")
    assert len(ledger.writer._epochs[run_id]) > 1, "each epoch was a call of its own"
    assert len(ledger.writer._writing[run_id]) in (2, 3)
    ledger.finish(run_id, {"roc_auc": 0.9}, tmp_path, {})
    history = ledger.client.get_metric_history(run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(epoch, 1 / epoch) for epoch in range(1, 1501)]


def test_a_cell_counts_as_failed_until_a_later_run_finishes_it(ledger, demo, tmp_path):
    spec = make_spec(demo, "mobilenet", "all")
    for fold, ends in ((1, ["FAILED"]), (2, ["KILLED"]), (3, ["FAILED", "FINISHED"]), (4, ["FAILED", "KILLED"])):
        for status in ends:
            _, run_id = start(ledger, spec, fold)
            ledger.client.set_terminated(run_id, status)
            time.sleep(0.002)  # MLflow orders runs by milliseconds
    _, again = start(ledger, spec, 5)
    ledger.client.set_terminated(again, "FAILED")
    start(ledger, spec, 5)  # at work now
    assert ledger.failed() == {("f" * 64, 1), ("f" * 64, 4)}


def test_trials_are_cells_that_serve_trials_alone(ledger, demo, tmp_path):
    spec = make_spec(demo, "mobilenet", "all")
    parent = ledger.parents.find_or_create(spec, "f" * 64, "title", {})
    keys = [LedgerKey("f" * 64, fold) for fold in range(6)]

    def run(fold: int, kind: str, status: str = "FINISHED") -> str:
        run_id = ledger.start(parent, "title", spec, {**TAGS, "kind": kind, "fold": str(fold), "driver": "a"})
        if status != "RUNNING":
            ledger.client.set_terminated(run_id, status)
        return run_id

    tried, both, tested = run(1, "tried"), (run(2, "tried"), run(2, "fold")), run(3, "fold")
    failed, going = run(4, "tried", "FAILED"), run(5, "tried", "RUNNING")
    run(3, "fold", "FAILED")
    run(1, "fold", "FAILED")
    books = [run(0, kind) for kind in ("search", "trial", "tuned")]  # which no version before this one knew
    for fingerprints in (None, ["f" * 64]):
        assert ledger.finished(fingerprints) == {keys[2]: both[1], keys[3]: tested}
    assert ledger.finished_cells(["f" * 64])["tried"] == {keys[1]: tried, keys[2]: both[0]}
    served = {key: (ledger.finished_run(key), ledger.finished_run(key, tried=True)) for key in keys}
    found = {key: tuple(each and each.info.run_id for each in runs) for key, runs in served.items()}
    none = (None, None)
    assert found == dict(zip(keys, [none, (None, tried), (both[1],) * 2, (tested,) * 2, none, none], strict=True))
    assert ledger.failed() == {keys[1], keys[4]}
    assert ledger.failed(tried=True) == {keys[4]}
    assert ledger.elsewhere("b").keys() == {keys[5]}
    assert not {run.info.run_id for run in ledger.cells("")} & {*books, parent}

    assert ledger.parents.summarise(parent, "f" * 64, [], [1, 2]) == {"test/folds": 2}
    about = ledger.client.get_run(parent)
    assert (about.info.status, about.data.tags["folds_finished"], about.data.tags["folds_tried"]) == (
        *("FINISHED", "2, 3"),
        "1, 2",
    )
    assert ledger.parents.is_summarised("f" * 64, [3], [1, 3])
    assert not ledger.parents.is_summarised("f" * 64, [1], [])
    ledger.parents.summarise(parent, "f" * 64, [1], [1])
    assert ledger.client.get_run(parent).info.status == "FAILED"
    assert len(ledger.reconcile(alone=True)) == 1
    assert {ledger.client.get_run(each).info.status for each in (going, failed)} == {"KILLED", "FAILED"}
    stopped = run(5, "tried", "RUNNING")
    ledger.close_all("a", "stopped")
    assert ledger.client.get_run(stopped).info.status == "KILLED"


def test_a_driver_that_stops_closes_its_own_runs_only(ledger, demo):
    spec = make_spec(demo, "mobilenet", "all")
    parent = ledger.parents.find_or_create(spec, "f" * 64, "title", {})
    runs = {
        driver: ledger.start(parent, "title", spec, {**TAGS, "fold": "1", "driver": driver}) for driver in ("a", "b")
    }
    ledger.close_all("a", "stopped")
    assert ledger.client.get_run(runs["a"]).info.status == "KILLED"
    assert ledger.client.get_run(runs["b"]).info.status == "RUNNING"


def test_what_has_ended_is_not_closed_again(ledger, demo):
    _, run_id = start(ledger, make_spec(demo, "mobilenet", "all"))
    ledger.client.set_terminated(run_id, "FINISHED")
    assert not ledger.close_if_running(run_id, "stopped")
    assert ledger.client.get_run(run_id).info.status == "FINISHED"


def test_an_epoch_that_could_not_be_written_is_not_lost_in_silence(ledger, demo, tmp_path):
    _, run_id = start(ledger, make_spec(demo, "mobilenet", "all"))
    ledger.client.set_terminated(run_id, "FINISHED")
    ledger.client.delete_run(run_id)
    ledger.writer.epoch(run_id, 1, {"loss": 0.5})
    with pytest.raises(Exception, match="must be in the 'active' state"):
        ledger.finish(run_id, {}, tmp_path, {})


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("my thesis")
    with pytest.raises(LedgerError, match="is not an SQLite database"):
        Ledger(TrackingConfig(uri=f"sqlite:///{path}"))
    assert path.read_text() == "my thesis"


@pytest.mark.slow  # MLflow itself waits for 20 s
def test_a_locked_database_is_explained(tracking, ledger, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)
    from bus_mlops.error_messages import explain

    path = tracking.uri.removeprefix("sqlite:///")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Exception, match="locked") as caught:
            Ledger(tracking.model_copy(update={"experiment": "while locked"}))
        message = explain(caught.value)
        assert message is not None
        assert "locked by another process" in message
    finally:
        holder.execute("ROLLBACK")
        holder.close()
