"""What may happen to a grid in a week: deaths, stops, locks, failures and rivals. No cell is lost or trained twice."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from mlflow_server import mlflow_server
from small_network import use_small_network
from trainings import (
    TRAIN,
    change,
    finished_keys,
    fold_runs,
    ledger_of,
    statuses,
    train,
    train_here,
    wait_for_the_middle,
)

from bus_mlops.spec import LedgerKey

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
needs_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="a small disk cannot be mounted here (unshare --user --mount)",
)
BUS_MLOPS = [sys.executable, "-c", "from bus_mlops.cli import main; main()"]


def kill_in_the_middle(project: Path, finished: int) -> tuple[set[str], set[str], list[Path]]:
    """Kill a driver while a cell trains, its workers with it: runs finished, runs cut off, checkpoints left."""
    driver = subprocess.Popen(TRAIN, cwd=project, stdout=subprocess.DEVNULL)
    wait_for_the_middle(project, finished)
    children = psutil.Process(driver.pid).children(recursive=True)
    # Ray's agents take a while longer to leave, and train nothing.
    workers = [child for child in children if not child.name().endswith("Agent")]
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert not alive, "workers outlived their driver"
    of = {
        state: {r.info.run_id for r in fold_runs(project) if r.info.status == state}
        for state in ("FINISHED", "RUNNING")
    }
    assert of["FINISHED"]
    assert of["RUNNING"]
    return of["FINISHED"], of["RUNNING"], list((project / "checkpoints").glob("[!.]*.npz"))


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", pytest.param("ray", marks=[pytest.mark.alone, needs_ray])])
def test_kill_9_in_the_middle_goes_on_with_the_cell_that_was_cut_off(tiny_project, kind):
    change(tiny_project, "training", epochs=300)
    change(tiny_project, "engine", kind=kind)
    assert fold_runs(tiny_project) == []  # and the store is there
    finished, cut_off, kept = kill_in_the_middle(tiny_project, finished=1)
    closed = set(cut_off)
    # Ray's workers hear of it late: one may have finished its cell, and the other not its first epoch. Then again.
    while not kept:
        finished, cut_off, kept = kill_in_the_middle(tiny_project, finished=len(finished))
        closed |= cut_off
    done = train(tiny_project)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} of them recorded already" in done.stdout
    assert done.stdout.count("goes on after epoch") == len(kept)
    assert list((tiny_project / "checkpoints").iterdir()) == []
    assert {run.info.status for run in ledger_of(tiny_project).runs("tags.kind = 'spec'")} == {"FINISHED"}
    assert done.stdout.count("closed a run whose process had died") == len(cut_off)
    assert {r.info.run_id for r in fold_runs(tiny_project) if r.info.status == "KILLED"} == closed
    assert len(finished_keys(tiny_project)) == len(set(finished_keys(tiny_project))) == 4
    assert finished <= {r.info.run_id for r in fold_runs(tiny_project) if r.info.status == "FINISHED"}


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_cell_ends_as_if_nothing_had_happened(tiny_project, tmp_path):
    change(tiny_project, "training", epochs=301)
    change(tiny_project, "tracking", uri=f"sqlite:///{tmp_path}/undisturbed.db", artifacts=str(tmp_path / "other"))
    assert train_here(tiny_project).returncode == 0
    expected = read_predictions(tiny_project)

    change(tiny_project, "tracking", uri="sqlite:///mlflow.db", artifacts="mlartifacts")
    assert fold_runs(tiny_project) == []
    driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = wait_for_the_middle(tiny_project)
    os.kill(int(run.data.tags["process.pid"]), signal.SIGKILL)
    output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, output
    assert statuses(tiny_project) == ["FINISHED"] * 4 + ["KILLED"]
    assert "starting it again" in output
    assert re.search(r"goes on after epoch \d+ of 301", output)
    pd.testing.assert_frame_equal(read_predictions(tiny_project), expected)

    key = LedgerKey(run.data.tags["fingerprint"], int(run.data.tags["fold"]))
    resumed = ledger_of(tiny_project).finished_run(key)
    assert resumed is not None
    assert re.fullmatch(r"after epoch \d+", resumed.data.tags["resumed"])
    assert len(ledger_of(tiny_project).client.get_metric_history(resumed.info.run_id, "loss")) == 301


TRIALS = """
from bus_mlops.entry import run_stage
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan_files import read_plan
from bus_mlops.paths import PLAN


def main(config):
    plan = read_plan(PLAN, "losses")
    with open_runner(config) as runner:
        rows = [runner.cells(row.spec, plan.folds, row.model, {}, tried=True) for row in plan.rows]
        runner.run([cell for cells in rows for cell in cells], "search")


if __name__ == "__main__":
    run_stage(main)
"""


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_kill_9_of_a_worker_and_of_the_driver_of_trials_repeats_no_other_cell(tiny_project):
    change(tiny_project, "training", epochs=300)
    assert fold_runs(tiny_project) == []
    (tiny_project / "trials.py").write_text(TRIALS)
    trials = [sys.executable, "trials.py"]
    driver = subprocess.Popen(trials, cwd=tiny_project, stdout=subprocess.DEVNULL)
    run = wait_for_the_middle(tiny_project, finished=0, kind="tried")
    os.kill(int(run.data.tags["process.pid"]), signal.SIGKILL)
    wait_for_the_middle(tiny_project, kind="tried")
    workers = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    assert not psutil.wait_procs(workers, timeout=15)[1], "workers outlived their driver"
    finished = {r.info.run_id for r in fold_runs(tiny_project, "tried") if r.info.status == "FINISHED"}
    assert finished

    done = train(tiny_project, trials)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} of them recorded already" in done.stdout
    runs = {r.info.run_id: r for r in fold_runs(tiny_project, "tried") if r.info.status == "FINISHED"}
    assert finished <= runs.keys()
    assert len(set(finished_keys(tiny_project, "tried"))) == len(runs) == 4
    assert {r.data.metrics["epochs_trained"] for r in runs.values()} == {300}
    assert fold_runs(tiny_project) == []
    assert {run.info.status for run in ledger_of(tiny_project).runs("tags.kind = 'spec'")} == {"FINISHED"}

    # The table takes what the trials have trained; a longer training would go on from what they keep.
    done = train_here(tiny_project)
    assert done.returncode == 0, done.stderr
    completed = fold_runs(tiny_project)
    assert {(r.info.status, r.data.metrics["epochs_trained"]) for r in completed} == {("FINISHED", 0)}
    assert {r.data.tags["completed_from"] for r in completed} == set(runs)
    assert [path.name for path in (tiny_project / "checkpoints").iterdir()] == ["states"]
    assert len(list((tiny_project / "checkpoints/states").iterdir())) == 4


def read_predictions(project: Path) -> pd.DataFrame:
    """What the stage hands on to the tables, in a fixed order."""
    frame = pd.read_parquet(project / "results/predictions/losses.parquet")
    return frame.sort_values(["model", "variant", "fold", "part", "image_id"], ignore_index=True)


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    ("kind", "number"),
    [("local", signal.SIGINT), ("local", signal.SIGTERM), pytest.param("ray", signal.SIGTERM, marks=needs_ray)],
)
def test_a_stop_is_clean_within_ten_seconds_and_says_how_to_go_on(tiny_project, kind, number):
    change(tiny_project, "training", epochs=100)
    change(tiny_project, "engine", kind=kind)
    temporary = tiny_project / "tmp"
    temporary.mkdir()
    environment = {**os.environ, **({"TMPDIR": str(temporary)} if kind == "local" else {})}
    driver = subprocess.Popen(
        TRAIN, cwd=tiny_project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
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
    ledger = ledger_of(tiny_project)
    shown = ledger.client.get_experiment(ledger.experiment).tags[f"progress.losses.{socket.gethostname()}"]
    assert shown.startswith("stopped")
    assert list(temporary.iterdir()) == []


RAISES_ONCE = '''"""A network whose function raises when it is called for the first time."""

from pathlib import Path

from bus_mlops.models.extensions import network


@network(label="Flaky", task="classification", input_size=64, source="a test")
def flaky(*, input_size, scaling, dropout):
    import keras
    from keras import layers

    from bus_mlops.models.blocks import malignancy_head

    try:
        Path("raised").mkdir()
    except FileExistsError:
        image = keras.Input((input_size, input_size, 3), name="image")
        pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
        return keras.Model(image, {"malignancy": malignancy_head(pooled, (8, 4), (dropout, 0))})
    raise ValueError("the moon is full")
'''


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_a_network_that_raises_in_one_cell_is_in_a_table_and_repeated_alone(tiny_project):
    (tiny_project / "extensions" / "flaky.py").write_text(RAISES_ONCE)
    path = tiny_project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["networks"]["flaky"] = {"weights": "random", "scaling": "unit"}
    params["strategy_settings"]["losses"]["networks"] = ["small", "flaky"]
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    change(tiny_project, "folds", run=[1])
    command = [*BUS_MLOPS, "train", "losses"]
    failed = train(tiny_project, command)
    assert failed.returncode == 1
    assert "1 of 4 runs of losses failed" in failed.stderr
    assert "`bus-mlops train --only-failed`" in failed.stderr
    told, *rows = [line for line in failed.stderr.splitlines() if "the moon is full" in line]
    # When it happens, and in a table at the end; which of its two cells is the first to raise is open.
    assert re.match(r"\[losses\] Flaky W?BCE.*, fold 1: FAILED: ", told)
    assert len(rows) == 1
    assert re.search(r"Flaky .* flaky +1 +ValueError: the moon is full \(flaky, line \d+\)", rows[0])
    assert "Traceback" not in failed.stderr
    assert statuses(tiny_project) == ["FAILED"] + ["FINISHED"] * 3

    repeated = train(tiny_project, [*command, "--only-failed"])
    assert repeated.returncode == 0, repeated.stderr
    assert "1 runs, 0 of them recorded already, 1 to train" in repeated.stdout
    assert statuses(tiny_project) == ["FAILED"] + ["FINISHED"] * 4
    assert "nothing to repeat" in train(tiny_project, [*command, "--only-failed"]).stdout
    parents = ledger_of(tiny_project).runs("tags.kind = 'spec'")
    assert {(run.info.status, run.data.tags["folds_finished"]) for run in parents} == {("FINISHED", "1")}


@pytest.mark.slow
@needs_mounts
def test_a_disk_without_room_for_checkpoints_does_not_stop_the_training(tiny_project):
    use_small_network(tiny_project, "heavy")
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
    use_small_network(tiny_project, "heavy")
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
    """Run a shell script with a folder of the project, `$SMALL`, on a disk with room for one model, if that."""
    small = project / folder
    small.mkdir(exist_ok=True)
    size = 20 if folder == "mlartifacts" else 8
    mounted = f"mount -t tmpfs -o size={size}m tmpfs $SMALL && {script}"
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


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_a_database_locked_for_20_seconds_is_waited_for(tiny_project):
    change(tiny_project, "training", epochs=300)
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


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_two_drivers_on_one_file_take_turns(tiny_project):
    drivers = [subprocess.Popen([*TRAIN, "-q"], cwd=tiny_project, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [driver.communicate(timeout=400)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    assert sum("another training is at work on this store" in text for text in outputs) == 1
    assert statuses(tiny_project) == ["FINISHED"] * 4


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_two_drivers_on_a_server_that_dies_for_30_seconds(tiny_project, tmp_path):
    change(tiny_project, "training", epochs=150)
    assert fold_runs(tiny_project) == []  # makes the tables; this file is the server's, not the drivers'
    with mlflow_server(tiny_project) as server:
        change(tiny_project, "tracking", uri=server.url, experiment="bus-benchmark")
        change(tiny_project, "engine", workers=1)
        logs = [(tmp_path / f"driver-{number}.log").open("w+") for number in (1, 2)]
        drivers = [subprocess.Popen(TRAIN, cwd=tiny_project, stdout=log, stderr=log) for log in logs]
        wait_for_the_middle(tiny_project, finished=0)
        server.kill()
        time.sleep(30)
        with mlflow_server(tiny_project, server.port):
            for driver, log in zip(drivers, logs, strict=True):
                driver.wait(600)
                log.seek(0)
                assert driver.returncode == 0, log.read()
    keys = finished_keys(tiny_project)
    assert len(keys) == len(set(keys)) == 4
    trained_by = {r.data.tags["driver"] for r in fold_runs(tiny_project) if r.info.status == "FINISHED"}
    assert len(trained_by) == 2, "the drivers should have shared the work"
