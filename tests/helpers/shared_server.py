"""The server that colleagues share, as docker/compose.yaml starts it, with its own processes instead of containers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from projects import ROOT
from s3_server import s3_server
from service import free_port, wait_until_healthy

COMPOSE = ROOT / "docker" / "compose.yaml"
ADMIN = "admin"
# What the server is called elsewhere.
NAME = "bus-server.example:5000"
# The values of docker/.env.
VALUES = {
    "POSTGRES_PASSWORD": "of-postgres-#%/@",
    "S3_KEY": "test-key",
    "S3_SECRET": "test-secret",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "of-the-administrator",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-random-text",
}


@dataclass(frozen=True)
class SharedServer:
    """Where MLflow listens, what it writes, and who may log in."""

    url: str
    log: Path
    audit: Path

    def login(self, user: str) -> dict[str, str]:
        """The environment of a user's commands."""
        return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": self._password(user)}

    def search_from_a_browser(self, address: str, page: str) -> int:
        """The status of what MLflow's page asks for, when it was opened at `page` (HOST:PORT)."""
        import requests

        answer = requests.post(
            f"{self.url}/ajax-api/2.0/mlflow/runs/search",
            auth=(ADMIN, self._password(ADMIN)),
            headers={"Host": address, "Origin": f"http://{page}"},
            json={"experiment_ids": ["0"], "max_results": 1},
            timeout=30,
        )
        return answer.status_code

    def add_user(self, user: str) -> None:
        import requests

        answer = requests.post(
            f"{self.url}/api/2.0/mlflow/users/create",
            auth=(ADMIN, self._password(ADMIN)),
            json={"username": user, "password": self._password(user)},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text

    def accounts(self, *arguments: str) -> str:
        """What docker/accounts.py says, run by the administrator."""
        command = [sys.executable, str(ROOT / "docker" / "accounts.py"), *arguments]
        environment = {**os.environ, **self.login(ADMIN), "MLFLOW_TRACKING_URI": self.url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @staticmethod
    def _password(user: str) -> str:
        return VALUES["MLFLOW_AUTH_ADMIN_PASSWORD"] if user == ADMIN else f"password-of-{user}"


@contextmanager
def shared_server(folder: Path) -> Iterator[SharedServer]:
    """Start PostgreSQL, the S3 store and MLflow, yield where it is, and stop them; skips without PostgreSQL."""
    with postgres() as port, s3_server(folder / "s3") as store:
        own_port = free_port()
        log = folder / "mlflow.log"
        server = SharedServer(f"http://localhost:{own_port}", log, folder / "audit.jsonl")
        values = VALUES | {"SERVER_NAMES": f"localhost:{own_port},{NAME}"}
        changed = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "MLFLOW_S3_ENDPOINT_URL": store.url,
            "MLFLOW_ADDRESS": "127.0.0.1",
            "MLFLOW_PORT": str(own_port),
            "MLFLOW_WORKERS": "1",
            "AUDIT_LOG": str(server.audit),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        environment = {**os.environ, **store.environment, **compose_environment("mlflow", values), **changed}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(ROOT / "docker" / "mlflow-server.sh")],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until_healthy(server.url, process, lambda: log.read_text(errors="replace"), seconds=180)
            yield server
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def compose_environment(service: str, values: dict[str, str]) -> dict[str, str]:
    """What docker/compose.yaml gives a service, with the values of docker/.env in place."""
    found: dict[str, str] = yaml.safe_load(COMPOSE.read_text())["services"][service]["environment"]
    return {name: _filled(text, values) for name, text in found.items()}


def _filled(text: str, values: dict[str, str]) -> str:
    """`${NAME}`, `${NAME:?message}` and `${NAME:-default}` as Compose fills them."""
    if not text.startswith("${"):
        return text
    name, _, default = text[2:-1].partition(":")
    if name in values:
        return values[name]
    assert default.startswith("-"), f"docker/compose.yaml needs {name}"
    return default[1:]


@contextmanager
def postgres() -> Iterator[int]:
    """PostgreSQL with the user and the database of docker/compose.yaml; yields its port."""
    given = compose_environment("postgres", VALUES)
    programs = _programs_of_postgres()
    # It refuses to run as root, and a folder below pytest's belongs to the user of the test alone.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="bus-postgres-"))
    port = free_port()
    try:
        password = folder / "password"
        password.write_text(given["POSTGRES_PASSWORD"])
        if user:
            for path in (folder, password):
                shutil.chown(path, user)
        data = ["--pgdata", str(folder / "data")]
        make = [str(programs / "initdb"), *data, *given["POSTGRES_INITDB_ARGS"].split(), "--auth", "scram-sha-256"]
        make += ["--username", given["POSTGRES_USER"], "--pwfile", str(password)]
        subprocess.run(make, user=user, cwd="/", check=True, capture_output=True)
        control = [str(programs / "pg_ctl"), *data, "--wait"]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        start = [*control, "--log", str(folder / "log"), "--options", options, "start"]
        subprocess.run(start, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)
        try:
            import psycopg

            login = {"user": given["POSTGRES_USER"], "password": given["POSTGRES_PASSWORD"], "dbname": "postgres"}
            address = psycopg.conninfo.make_conninfo(host="127.0.0.1", port=port, **login)
            with psycopg.connect(address, autocommit=True) as database:
                database.execute(f"CREATE DATABASE {given['POSTGRES_DB']}")
            yield port
        finally:
            stop = [*control, "--mode", "immediate", "stop"]
            subprocess.run(stop, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder)


def _programs_of_postgres() -> Path:
    """The folder of PostgreSQL's newest programs, which Debian keeps off the PATH; skips without them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    if not found:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    return found[-1].parent
