"""Training through the real engine and ledger: once each, recorded with its evidence, the same for any workers."""

from __future__ import annotations

import json
import socket

import numpy as np
import pandas as pd
import pytest
from trainings import change, change_plan, fold_runs, ledger_of, statuses, train, train_here

from bus_mlops.tracking.ledger import MODEL


@pytest.mark.usefixtures("small_network")
def test_a_strategy_is_trained_once_and_recorded_with_its_evidence(tiny_project):
    change(tiny_project, "engine", workers=None)  # as many as the machine has cores for
    first = train_here(tiny_project)
    assert first.returncode == 0, first.stderr
    assert "4 runs, 0 of them recorded already, 4 to train" in first.stdout
    runs = fold_runs(tiny_project)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    ledger = ledger_of(tiny_project)
    run = runs[0]
    assert {"predictions.csv", "learning_curves.csv", MODEL} <= {
        item.path for item in ledger.client.list_artifacts(run.info.run_id)
    }
    assert {"accuracy", "sensitivity", "specificity", "f1", "balanced_accuracy", "roc_auc"} <= set(run.data.metrics)
    assert len(ledger.client.get_metric_history(run.info.run_id, "validation_loss")) == 2
    housekeeping = ("process.", "driver.", "progress")
    assert [name for name in run.data.tags if name.startswith(housekeeping)] == []  # it has ended
    shown = ledger.client.get_experiment(ledger.experiment).tags[f"progress.losses.{socket.gethostname()}"]
    assert shown.startswith("4 of 4 runs done")

    frame = pd.read_parquet(tiny_project / "results/predictions/losses.parquet")
    test = frame[frame["part"] == "test"]
    assert (test.groupby(["model", "variant"])["image_id"].nunique() == 74).all()
    assert not test.duplicated(["model", "variant", "image_id"]).any()

    before = (tiny_project / "results/predictions/losses.parquet").read_bytes()
    second = train_here(tiny_project)
    assert "4 of them recorded already, 0 to train" in second.stdout
    assert (tiny_project / "results/predictions/losses.parquet").read_bytes() == before


@pytest.mark.usefixtures("small_network")
def test_a_cell_that_cannot_be_trained_fails_by_name_and_the_others_finish(tiny_project):
    rows = json.loads((tiny_project / "results/plan/losses.json").read_text())["rows"]
    rows[1]["spec"]["training"]["input_size"] = 96  # no image was assembled at this size
    change_plan(tiny_project, folds=[1], rows=rows)
    done = train(tiny_project)
    assert statuses(tiny_project) == ["FAILED", "FINISHED"]
    assert done.returncode == 1
    assert "1 of 2 runs of losses failed" in done.stderr
    assert "WBCE" in done.stderr
    assert "96" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_the_number_of_workers_changes_no_number(tiny_project, tmp_path):
    frames = []
    for workers in (1, 2):
        change(tiny_project, "engine", workers=workers)
        store = f"sqlite:///{tmp_path}/workers-{workers}.db"
        change(tiny_project, "tracking", uri=store, artifacts=str(tmp_path / f"artifacts-{workers}"))
        done = train_here(tiny_project)
        assert done.returncode == 0, done.stderr
        frames.append(pd.read_parquet(tiny_project / "results/predictions/losses.parquet"))
    np.testing.assert_array_equal(frames[0]["probability"], frames[1]["probability"])
