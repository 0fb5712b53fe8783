"""Servers for tests: a free port, waiting for one, and `bus-mlops serve` in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from projects import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_healthy(url: str, process: subprocess.Popen[Any], said: Callable[[], str], seconds: float) -> None:
    """Wait until a server's `/health` answers; AssertionError with what it said if it ends or takes too long."""
    import requests

    deadline = time.monotonic() + seconds
    while True:
        try:
            if requests.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except requests.RequestException:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the server at {url} did not start:\n{said()[-3000:]}")
        time.sleep(0.1)


@contextmanager
def served(model: str | Path, *options: str, python: str = sys.executable, cwd: Path = ROOT) -> Iterator[str]:
    """Serve a model and yield the address; the process is stopped at the end."""
    port = free_port()
    command = [python, "-c", "from bus_mlops.cli import main; main()", "serve", str(model), "--port", str(port)]
    path = {} if python != sys.executable else {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, *options],
        cwd=cwd,
        env={**os.environ, **path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(url, process, lambda: process.communicate()[0], seconds=120)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=30)
