"""Training through the real engine and ledger: once each, again after a kill, never twice, failures in a table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from bus_mlops.config import TrackingConfig
from bus_mlops.tracking.ledger import MODEL, Ledger

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(ROOT / "pipelines" / "train.py"), "losses"]


def change(project: Path, **training: Any) -> None:
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["training"].update(training)
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    subprocess.run([sys.executable, str(ROOT / "pipelines" / "plan.py")], cwd=project, check=True, timeout=60)


def train(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(TRAIN, cwd=project, capture_output=True, text=True, timeout=280, check=False)


def ledger_of(project: Path) -> Ledger:
    # An absolute URI: MLflow keeps a store per URI, and a relative one would stay with the first test's project.
    return Ledger(TrackingConfig(uri=f"sqlite:///{project}/mlflow.db", artifacts=str(project / "mlartifacts")))


def fold_runs(project: Path) -> list[Any]:
    return ledger_of(project).runs("tags.kind = 'fold'")


def wait_for_the_middle(project: Path) -> Any:
    """Wait until one cell is finished and another one is some epochs into its training; returns the latter's run."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if (project / "mlflow.db").exists():
            runs = fold_runs(project)
            going = [r for r in runs if r.info.status == "RUNNING" and "loss" in r.data.metrics]
            if going and any(r.info.status == "FINISHED" for r in runs):
                return going[0]
        time.sleep(0.1)
    raise AssertionError("no cell was ever in the middle of its training")


def test_a_strategy_is_trained_once_and_recorded_with_its_evidence(tiny_project):
    first = train(tiny_project)
    assert first.returncode == 0, first.stderr
    assert "4 runs, 0 of them recorded already, 4 to train" in first.stdout
    runs = fold_runs(tiny_project)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    ledger = ledger_of(tiny_project)
    run = runs[0]
    assert {"predictions.csv", "learning_curves.csv", MODEL} <= ledger.artifact_names(run.info.run_id)
    assert {"accuracy", "sensitivity", "specificity", "f1", "balanced_accuracy", "roc_auc"} <= set(run.data.metrics)
    assert len(ledger.client.get_metric_history(run.info.run_id, "validation_loss")) == 2

    frame = pd.read_parquet(tiny_project / "results/predictions/losses.parquet")
    test = frame[frame["part"] == "test"]
    assert (test.groupby(["model", "variant"])["image_id"].nunique() == 74).all()
    assert not test.duplicated(["model", "variant", "image_id"]).any()

    before = (tiny_project / "results/predictions/losses.parquet").read_bytes()
    second = train(tiny_project)
    assert "4 of them recorded already, 0 to train" in second.stdout
    assert (tiny_project / "results/predictions/losses.parquet").read_bytes() == before


@pytest.mark.slow
def test_kill_9_in_the_middle_goes_on_with_the_cell_that_was_cut_off(tiny_project):
    change(tiny_project, epochs=40)
    assert fold_runs(tiny_project) == []  # and the store is there
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.DEVNULL)
    wait_for_the_middle(tiny_project)
    workers = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert not alive, "workers outlived their driver"

    finished = {
        (r.data.tags["fingerprint"], r.data.tags["fold"]): r.info.run_id
        for r in fold_runs(tiny_project)
        if r.info.status == "FINISHED"
    }
    cut_off = [r.info.run_id for r in fold_runs(tiny_project) if r.info.status == "RUNNING"]
    assert finished
    assert cut_off
    done = train(tiny_project)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} of them recorded already" in done.stdout
    runs = fold_runs(tiny_project)
    by_status: dict[str, list[Any]] = {}
    for run in runs:
        by_status.setdefault(run.info.status, []).append(run)
    assert {r.info.run_id for r in by_status["KILLED"]} == set(cut_off)
    keys = [(r.data.tags["fingerprint"], r.data.tags["fold"]) for r in by_status["FINISHED"]]
    assert len(keys) == len(set(keys)) == 4
    assert set(finished.values()) <= {r.info.run_id for r in by_status["FINISHED"]}


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_cell_repeated(tiny_project):
    change(tiny_project, epochs=40)
    assert fold_runs(tiny_project) == []  # and the store is there
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.PIPE, text=True)
    run = wait_for_the_middle(tiny_project)
    os.kill(int(run.data.tags["process.pid"]), signal.SIGKILL)
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    statuses = [run.info.status for run in fold_runs(tiny_project)]
    assert sorted(statuses) == ["FINISHED"] * 4 + ["KILLED"]
    assert "starting it again" in output


def test_a_cell_that_cannot_be_trained_fails_by_name_and_the_others_finish(tiny_project):
    plan = tiny_project / "results/plan/losses.json"
    values = json.loads(plan.read_text())
    values["folds"] = [1]
    values["rows"][1]["spec"]["training"]["input_size"] = 96  # no image was assembled at this size
    plan.write_text(json.dumps(values))
    done = train(tiny_project)
    assert sorted(run.info.status for run in fold_runs(tiny_project)) == ["FAILED", "FINISHED"]
    assert done.returncode == 1
    assert "1 of 2 runs of losses failed" in done.stderr
    assert "WBCE" in done.stderr
    assert "96" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tiny_project):
    change(tiny_project, epochs=30)
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    for line in driver.stdout:
        if "epoch" in line:
            break
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert {run.info.status for run in fold_runs(tiny_project)} <= {"KILLED", "FINISHED"}


@pytest.mark.slow
def test_the_number_of_workers_changes_no_number(tiny_project, tmp_path):
    frames = []
    for workers in (1, 2):
        path = tiny_project / "params.yaml"
        values = yaml.safe_load(path.read_text())
        values["engine"]["workers"] = workers
        values["tracking"]["uri"] = f"sqlite:///{tmp_path}/workers-{workers}.db"
        values["tracking"]["artifacts"] = str(tmp_path / f"artifacts-{workers}")
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        done = train(tiny_project)
        assert done.returncode == 0, done.stderr
        frames.append(pd.read_parquet(tiny_project / "results/predictions/losses.parquet"))
    np.testing.assert_array_equal(frames[0]["probability"], frames[1]["probability"])
