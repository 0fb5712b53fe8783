"""`bus-mlops serve` in a process of its own, for tests and for nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projects import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(model: str | Path, *options: str, python: str = sys.executable, cwd: Path = ROOT) -> Iterator[str]:
    """Serve a model and yield the address; the process is stopped at the end."""
    import requests

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
        deadline = time.monotonic() + 120
        while True:
            try:
                if requests.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except requests.ConnectionError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"the service did not start:\n{process.communicate()[0][-3000:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=30)
