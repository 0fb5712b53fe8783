"""The Ray engine: the same numbers as the local one, and a grid on a cluster that survives the death of a machine."""

from __future__ import annotations

import importlib.util
import json
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow_server import mlflow_server
from projects import ROOT
from small_network import replace_the_zoo
from trainings import TRAIN, change, change_plan, finished_keys, fold_runs, statuses, train, wait_for_the_middle

from bus_mlops.config import RayEngineConfig, TrackingConfig
from bus_mlops.errors import ConfigError, RunError
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.experiments.engines.choose import make_engine
from bus_mlops.experiments.engines.collector import Collector
from bus_mlops.experiments.engines.groups import MOST_PROGRAMS
from bus_mlops.experiments.engines.ray_engine import RayEngine, check_store
from bus_mlops.spec import LedgerKey

JOB = Job(Path("benchmark"), Path("folds.csv"), TrackingConfig(), Path("checkpoints"), None, threads=1, driver="test")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def test_ray_that_is_not_installed_is_explained(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'bus-mlops\[ray\]'"):
        make_engine(JOB, RayEngineConfig())


@needs_ray
def test_a_cluster_that_is_not_there_is_explained():
    config = RayEngineConfig(address=f"127.0.0.1:{free_port()}")
    with pytest.raises(RunError, match="ray start --head"), make_engine(JOB, config) as engine:
        engine.run([], lambda event: None)


def test_an_sqlite_file_is_refused_for_a_cluster_of_several_machines():
    nodes = [{"NodeManagerHostname": name, "Alive": True} for name in ("a", "b", "a")]
    gone = {"NodeManagerHostname": "c", "Alive": False}
    with pytest.raises(ConfigError, match=r"mlflow\.db, which is for one machine, but the Ray cluster has 2: a, b"):
        check_store("sqlite:///mlflow.db", [*nodes, gone])
    check_store("http://a:5000", nodes)
    check_store("sqlite:///mlflow.db", [nodes[0], nodes[2], gone])


@needs_ray
def test_ray_takes_the_task_with_all_its_options():
    task = RayEngine(JOB, RayEngineConfig(num_gpus=0.5))._task()
    assert (task._max_calls, task._default_options["num_gpus"]) == (MOST_PROGRAMS, 0.5)


@needs_ray
def test_gpus_are_shared_in_parts_and_what_no_machine_has_is_refused(demo, monkeypatch):
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        for gpus, cpus, slots in (
            (0, None, 4),
            (0.5, None, 4),
            (0.5, 0.5, 4),
            (1, 1, 2),
            (2, None, 1),
            (0.25, 0.25, 8),
        ):
            assert RayEngine(JOB, RayEngineConfig(num_gpus=gpus, num_cpus=cpus))._slots() == slots
        with pytest.raises(ConfigError, match=r"asks for 1 CPU and 3 GPU .*there: 4 CPU, 2 GPU"):
            RayEngine(JOB, RayEngineConfig(num_gpus=3))._slots()
    finally:
        ray.shutdown()


def test_a_repeated_task_tells_one_story_a_cell():
    told: list[CellEvent] = []
    collector = Collector(told.append)
    cell = LedgerKey("f", 1)
    for event in (
        CellEvent("started", *cell, run_id="first"),
        CellEvent("started", *cell, run_id="second"),
        CellEvent("epoch", *cell, run_id="first", epoch=9),  # of the life that is over
        CellEvent("epoch", *cell, run_id="second", epoch=1),
        CellEvent("finished", *cell, run_id="second"),
        CellEvent("finished", *cell, run_id="second"),  # from the mailbox and from the task's result
    ):
        collector.take(event)
    assert [event.kind for event in told] == ["started", "lost", "started", "epoch", "finished"]
    assert collector.done[cell].run_id == "second"


def test_of_a_task_that_dies_again_and_again_only_the_cell_at_fault_fails(demo):
    from bus_mlops.experiments.strategies import make_spec

    spec = make_spec(demo, "mobilenet", "all")
    group = [Cell(spec, fold, "f", "parent", "title", "data", "folds") for fold in (1, 2, 3)]
    collector = Collector(lambda event: None)
    collector.take(CellEvent("started", "f", 1, run_id="a"))
    collector.take(CellEvent("finished", "f", 1, run_id="a"))
    collector.take(CellEvent("started", "f", 2, run_id="b"))
    assert collector.give_up(group, "out of memory") == [group[2]]
    assert collector.done[LedgerKey("f", 2)].kind == "failed"
    assert [cell.fold for cell in group if collector.give_up([cell], "again")] == []
    assert {event.kind for key, event in collector.done.items() if key.fold == 3} == {"failed"}


@needs_ray
@pytest.mark.slow
def test_predictions_are_the_same_on_ray_with_a_server(tiny_project, tmp_path):
    """Of a network that answers both questions, and of one that only draws masks."""
    replace_the_zoo(tiny_project)
    rows = json.loads((tiny_project / "results/plan/approaches.json").read_text())["rows"]
    drawing = [row for row in rows if row["spec"]["network"] in ("small_approach", "small_mask")]
    assert len(drawing) == 2
    command = [*TRAIN[:-1], "approaches"]
    frames = []
    with mlflow_server(tmp_path / "server") as server:
        for kind, uri in (("local", f"sqlite:///{tmp_path}/local.db"), ("ray", server.url)):
            change(tiny_project, "engine", kind=kind, workers=2)
            change(tiny_project, "tracking", uri=uri, artifacts=str(tmp_path / kind))
            change_plan(tiny_project, "approaches", folds=[1], rows=drawing)
            done = train(tiny_project, command)
            assert done.returncode == 0, done.stderr
            assert "2 runs, 0 of them recorded already, 2 to train" in done.stdout
            frames.append(pd.read_parquet(tiny_project / "results/predictions/approaches.parquet"))
    assert frames[0]["dice"].notna().any()
    pd.testing.assert_frame_equal(frames[0], frames[1])


@needs_ray
@pytest.mark.slow
def test_trials_of_a_search_go_through_the_engine_too(tiny_project, tmp_path):
    replace_the_zoo(tiny_project)
    command = [sys.executable, str(ROOT / "pipelines" / "search.py"), "loss"]
    found = []
    for kind in ("local", "ray"):
        change(tiny_project, "engine", kind=kind)
        change(tiny_project, "tracking", uri=f"sqlite:///{tmp_path}/{kind}.db", artifacts=str(tmp_path / kind))
        shutil.rmtree(tiny_project / "studies", ignore_errors=True)
        done = train(tiny_project, command)
        assert done.returncode == 0, done.stderr
        result = json.loads((tiny_project / "results/search/loss/best.json").read_text())
        # Ids of runs are a store's own, and epochs are what was trained since the last stop.
        assert all(trial.pop("runs") and trial.pop("epochs") for trial in result["trials"])
        found.append(result)
    assert len(found[0]["trials"]) == 4  # 2 of each fold
    assert found[0] == found[1]


@pytest.mark.usefixtures("small_network")
@needs_ray
@pytest.mark.slow
def test_a_grid_on_a_cluster_survives_the_death_of_a_machine(tiny_project, monkeypatch):
    # The head asks for a token if it finds one; the others send it only if they are told to.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    change(tiny_project, "training", epochs=400)
    assert fold_runs(tiny_project) == []  # makes the tables; this file is the server's, not the driver's
    with mlflow_server(tiny_project) as server, cluster(nodes=2) as (address, nodes):
        change(tiny_project, "tracking", uri=server.url)
        change(tiny_project, "engine", kind="ray", workers=None, address=address)
        log = (tiny_project / "driver.log").open("w+")
        driver = subprocess.Popen(TRAIN, cwd=tiny_project, stdout=log, stderr=subprocess.STDOUT)
        run = wait_for_the_middle(tiny_project, finished=0)
        at_work = int(run.data.tags["process.pid"])
        victim = next(node for node in nodes if at_work in {p.pid for p in node.children(recursive=True)})
        kill_tree(victim)
        driver.wait(400)
        log.seek(0)
        assert driver.returncode == 0, log.read()
    keys = finished_keys(tiny_project)
    assert len(keys) == len(set(keys)) == 4
    assert statuses(tiny_project) == ["FINISHED"] * 4 + ["KILLED"]
    killed = next(r for r in fold_runs(tiny_project) if r.info.status == "KILLED")
    assert killed.info.run_id == run.info.run_id
    frame = pd.read_parquet(tiny_project / "results/predictions/losses.parquet")
    assert (frame[frame["part"] == "test"].groupby(["model", "variant"])["image_id"].nunique() == 74).all()


@contextmanager
def cluster(nodes: int) -> Iterator[tuple[str, list[psutil.Process]]]:
    """A head without cores and some nodes of one core each, by Ray's own command line; its address and the nodes."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: the paths of Unix sockets must be
    port = free_port()
    head = start_ray(folder, "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
    started = [head]
    try:
        for _ in range(nodes):
            started.append(start_ray(folder, f"--address=127.0.0.1:{port}", "--num-cpus=1"))  # noqa: PERF401 - one by one
        yield f"127.0.0.1:{port}", started[1:]
    finally:
        for node in reversed(started):
            kill_tree(node)
        shutil.rmtree(folder, ignore_errors=True)


def start_ray(folder: Path, *arguments: str) -> psutil.Process:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats", *arguments]
    if "--head" in arguments:
        command.append(f"--temp-dir={folder}")
    log = (folder / f"{len(list(folder.iterdir()))}.log").open("w+")
    node = psutil.Popen([*command, "--object-store-memory=100000000"], stdout=log, stderr=log)
    for _ in range(1200):
        log.seek(0)
        text = log.read()
        if "Ray runtime started" in text:
            return node
        assert node.poll() is None, text
        try:
            node.wait(0.1)
        except psutil.TimeoutExpired:
            continue
    raise AssertionError(f"ray start took too long: {text}")


def kill_tree(node: psutil.Process) -> None:
    """What a power cut does: kill -9 of everything that a node started, and of itself."""
    if not node.is_running():
        return
    family = [*node.children(recursive=True), node]
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)


def free_port() -> int:
    """A port below those that the system, and Ray's workers, give out by themselves."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port
    raise AssertionError("no port is free")
