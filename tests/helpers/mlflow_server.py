"""A real MLflow tracking server on this machine for a test, with a store and artifacts of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service import free_port, wait_until_healthy


@dataclass(frozen=True)
class MlflowServer:
    """Where it listens; `stop` and `kill` take it away before its time."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        # Its workers are processes of their own.
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
            self.process.wait(60)


@contextmanager
def mlflow_server(folder: Path, port: int = 0) -> Iterator[MlflowServer]:
    """Start the server with its files below `folder`, yield where it is, and stop it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = MlflowServer(port, process)
    try:
        wait_until_healthy(server.url, process, lambda: (folder / "log.txt").read_text(errors="replace"), seconds=180)
        yield server
    finally:
        server.stop()
