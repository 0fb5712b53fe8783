"""What may happen to a grid in a week: deaths, stops, locks, failures and rivals. No cell is lost or trained twice."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from trainings import (
    TRAIN,
    change,
    finished_keys,
    fold_runs,
    ledger_of,
    statuses,
    train,
    wait_for_the_middle,
)

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
needs_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="a small disk cannot be mounted here (unshare --user --mount)",
)
BUS_MLOPS = [sys.executable, "-c", "from bus_mlops.cli import main; main()"]


def test_kill_9_in_the_middle_goes_on_with_the_cell_that_was_cut_off(tiny_project):
    change(tiny_project, "training", epochs=30)
    assert fold_runs(tiny_project) == []  # and the store is there
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.DEVNULL)
    wait_for_the_middle(tiny_project)
    workers = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert not alive, "workers outlived their driver"

    finished = {r.info.run_id for r in fold_runs(tiny_project) if r.info.status == "FINISHED"}
    cut_off = {r.info.run_id for r in fold_runs(tiny_project) if r.info.status == "RUNNING"}
    assert finished
    assert cut_off
    done = train(tiny_project)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} of them recorded already" in done.stdout
    assert done.stdout.count("goes on after epoch") == len(cut_off)
    assert list((tiny_project / "checkpoints").iterdir()) == []
    assert done.stdout.count("closed a run whose process had died") == len(cut_off)
    assert {r.info.run_id for r in fold_runs(tiny_project) if r.info.status == "KILLED"} == cut_off
    assert len(finished_keys(tiny_project)) == len(set(finished_keys(tiny_project))) == 4
    assert finished <= {r.info.run_id for r in fold_runs(tiny_project) if r.info.status == "FINISHED"}


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_cell_ends_as_if_nothing_had_happened(tiny_project, tmp_path):
    change(tiny_project, "training", epochs=37)
    change(tiny_project, "tracking", uri=f"sqlite:///{tmp_path}/undisturbed.db", artifacts=str(tmp_path / "other"))
    assert train(tiny_project).returncode == 0
    expected = read_predictions(tiny_project)

    change(tiny_project, "tracking", uri="sqlite:///mlflow.db", artifacts="mlartifacts")
    assert fold_runs(tiny_project) == []
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.PIPE, text=True)
    run = wait_for_the_middle(tiny_project)
    os.kill(int(run.data.tags["process.pid"]), signal.SIGKILL)
    output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, output
    assert statuses(tiny_project) == ["FINISHED"] * 4 + ["KILLED"]
    assert "starting it again" in output
    assert re.search(r"goes on after epoch \d+ of 37", output)
    pd.testing.assert_frame_equal(read_predictions(tiny_project), expected)

    key = run.data.tags["fingerprint"], int(run.data.tags["fold"])
    resumed = ledger_of(tiny_project).finished_run(key)
    assert resumed is not None
    assert re.fullmatch(r"after epoch \d+", resumed.data.tags["resumed"])
    assert len(ledger_of(tiny_project).client.get_metric_history(resumed.info.run_id, "loss")) == 37


def read_predictions(project: Path) -> pd.DataFrame:
    """What the stage hands on to the tables, in a fixed order."""
    frame = pd.read_parquet(project / "results/predictions/losses.parquet")
    return frame.sort_values(["model", "variant", "fold", "part", "image_id"], ignore_index=True)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("local", signal.SIGINT),
        pytest.param("local", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGTERM, marks=[pytest.mark.slow, needs_ray]),
    ],
)
def test_a_stop_is_clean_within_ten_seconds_and_says_how_to_go_on(tiny_project, kind, number):
    change(tiny_project, "training", epochs=100)
    change(tiny_project, "engine", kind=kind)
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    for line in driver.stdout:
        if "epoch" in line:
            break
    workers = psutil.Process(driver.pid).children(recursive=True)
    stopped = time.monotonic()
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=60)
    assert time.monotonic() - stopped < 10
    assert driver.returncode == 130
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert set(statuses(tiny_project)) == {"KILLED"}


def test_failures_are_a_table_and_only_failed_repeats_them_alone(tiny_project):
    change(tiny_project, "folds", run=[1])
    change(tiny_project, "training", input_size=96)  # no image was assembled at this size
    command = [*BUS_MLOPS, "train", "losses"]
    failed = train(tiny_project, command)
    assert failed.returncode == 1
    assert "2 of 2 runs of losses failed" in failed.stderr
    assert "--only-failed" in failed.stderr
    rows = [line for line in failed.stderr.splitlines() if "mobilenet" in line]
    assert len(rows) == 2
    assert ["WBCE" in row for row in sorted(rows)] == [False, True]
    assert "Traceback" not in failed.stderr

    assemble_at(tiny_project, 96)
    change(tiny_project, "folds", run=[1, 2])
    repeated = train(tiny_project, [*command, "--only-failed"])
    assert repeated.returncode == 0, repeated.stderr
    assert "2 runs, 0 of them recorded already, 2 to train" in repeated.stdout
    assert {fold for _, fold in finished_keys(tiny_project)} == {"1"}
    assert "nothing to repeat" in train(tiny_project, [*command, "--only-failed"]).stdout


def assemble_at(project: Path, size: int) -> None:
    """Mend the cause: images and masks at the missing size."""
    import json

    folder = project / "data" / "benchmark"
    for kind in ("images", "masks"):
        small = np.load(folder / f"{kind}_64.npy")
        index = np.arange(size) * 64 // size
        np.save(folder / f"{kind}_{size}.npy", small[:, index][:, :, index])
    path = folder / "benchmark.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "sizes": [*values["sizes"], size]}))


@pytest.mark.slow
@needs_mounts
def test_a_disk_without_room_for_checkpoints_does_not_stop_the_training(tiny_project):
    done = on_small_disk(tiny_project, "checkpoints", " ".join(TRAIN))
    assert done.returncode == 0, done.stderr
    assert statuses(tiny_project) == ["FINISHED"] * 4
    assert done.stdout.count("no checkpoint could be written") == 4
    assert "No space left on device" in done.stdout
    assert all("No space left" in run.data.tags["checkpoints"] for run in fold_runs(tiny_project))


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize("folder", ["mlartifacts", "tmp"])
def test_a_full_disk_fails_a_cell_that_then_needs_no_second_training(tiny_project, folder):
    change(tiny_project, "engine", workers=1)
    assert fold_runs(tiny_project) == []
    again = "mount -o remount,size=200m tmpfs $SMALL && " + " ".join(TRAIN)
    done = on_small_disk(tiny_project, folder, f"{' '.join(TRAIN)}; test $? = 1 && {again}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the disk is full while writing" in done.stderr
    assert "Traceback" not in done.stderr
    failed = statuses(tiny_project).count("FAILED")
    assert failed
    assert statuses(tiny_project) == ["FAILED"] * failed + ["FINISHED"] * 4
    assert done.stdout.count("goes on after epoch 2 of 2") == failed


def on_small_disk(project: Path, folder: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with a folder of the project, `$SMALL`, on a disk of 20 MB: room for one model, if that."""
    small = project / folder
    small.mkdir(exist_ok=True)
    mounted = f"mount -t tmpfs -o size=20m tmpfs $SMALL && {script}"
    environment = {**os.environ, "SMALL": str(small)}
    if folder == "tmp":
        environment["TMPDIR"] = str(small)
    return subprocess.run(
        [*UNSHARE, "sh", "-c", mounted],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.slow
def test_a_database_locked_for_20_seconds_is_waited_for(tiny_project):
    change(tiny_project, "training", epochs=20)
    assert fold_runs(tiny_project) == []
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stderr=subprocess.PIPE, text=True)
    wait_for_the_middle(tiny_project, finished=0)
    holder = sqlite3.connect(tiny_project / "mlflow.db", isolation_level=None, timeout=60)
    holder.execute("BEGIN EXCLUSIVE")
    time.sleep(20)
    holder.execute("ROLLBACK")
    holder.close()
    _, errors = driver.communicate(timeout=400)
    assert driver.returncode == 0, errors
    assert statuses(tiny_project) == ["FINISHED"] * 4


@pytest.mark.slow
def test_two_drivers_on_one_file_take_turns(tiny_project):
    drivers = [subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [driver.communicate(timeout=400)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    assert sum("another training is at work on this store" in text for text in outputs) == 1
    assert statuses(tiny_project) == ["FINISHED"] * 4


@pytest.mark.slow
def test_two_drivers_on_a_server_that_dies_for_30_seconds(tiny_project, tmp_path):
    change(tiny_project, "training", epochs=20)
    assert fold_runs(tiny_project) == []  # makes the tables; this file is the server's, not the drivers'
    with server(tiny_project) as (uri, process):
        change(tiny_project, "tracking", uri=uri, experiment="bus-benchmark")
        change(tiny_project, "engine", workers=1)
        logs = [(tmp_path / f"driver-{number}.log").open("w+") for number in (1, 2)]
        drivers = [subprocess.Popen(TRAIN, cwd=tiny_project, stdout=log, stderr=log) for log in logs]
        wait_for_the_middle(tiny_project, finished=0)
        kill_tree(process)
        time.sleep(30)
        with server(tiny_project, int(uri.rpartition(":")[2])):
            for driver, log in zip(drivers, logs, strict=True):
                driver.wait(600)
                log.seek(0)
                assert driver.returncode == 0, log.read()
    keys = finished_keys(tiny_project)
    assert len(keys) == len(set(keys)) == 4
    trained_by = {r.data.tags["driver"] for r in fold_runs(tiny_project) if r.info.status == "FINISHED"}
    assert len(trained_by) == 2, "the drivers should have shared the work"


@contextmanager
def server(project: Path, port: int = 0) -> Iterator[tuple[str, psutil.Process]]:
    """An MLflow server on the project's SQLite file, artifacts through the server."""
    import socket
    import urllib.request

    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{project}/mlflow.db"]
    command += ["--serve-artifacts", "--artifacts-destination", str(project / "served")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (project / "server.log").open("a") as log:
        process = psutil.Popen(command, cwd=project, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(600):
            time.sleep(0.2)
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                continue
        yield f"http://127.0.0.1:{port}", process
    finally:
        kill_tree(process)


def kill_tree(process: psutil.Process) -> None:
    if not process.is_running():
        return
    family = [*process.children(recursive=True), process]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=10)
