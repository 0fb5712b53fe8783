"""What hostile requests within the documented limits do to the service: how long others wait, memory, how it ends.

    python benchmarks/service_attack.py PACKAGE [--baseline CHECKOUT]

serves the package with its defaults, attacks it in three ways, each against a fresh service, and prints what an honest
client and the machine see. With --baseline the same is done with the code of another checkout, and ratios are printed.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import requests
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0  # of the honest client, and of whoever sends SIGTERM, in seconds
JSON = {"Content-Type": "application/json"}


def png(pixels: np.ndarray) -> str:
    """An image as base64."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


SMALL = png(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
HONEST = json.dumps({"dataframe_records": [{"image": SMALL}]})
EXPLAINED = json.dumps({"dataframe_records": [{"image": SMALL}] * 64, "params": {"masks": True, "explanations": True}})


def huge() -> str:
    """Half a megabyte of body that claims 64 pictures of 4 megapixels, with masks."""
    picture = np.zeros((2000, 2000), np.uint8)
    picture[::2, :1000] = 255
    return json.dumps({"dataframe_records": [{"image": png(picture)}] * 64, "params": {"masks": True}})


@contextmanager
def service(code: Path, package: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A service with the code of a checkout: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = "from bus_mlops.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", str(package), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    process = subprocess.Popen(command, cwd=code, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                requests.get(f"{url}/health", timeout=5)
                break
            except requests.RequestException:
                time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def honest_wait(url: str) -> float:
    """Seconds until a single image is answered, asked again and again; PATIENCE if it never is."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < PATIENCE:
        try:
            left = PATIENCE - waited
            answer = requests.post(f"{url}/invocations", HONEST, headers=JSON, timeout=left)
            if answer.status_code == 200:
                break
        except requests.RequestException:
            pass
        time.sleep(0.05)
    return min(PATIENCE, time.monotonic() - begun)


def ask(url: str, body: str) -> None:
    """Send a request, whatever becomes of it."""
    with suppress(requests.RequestException):
        requests.post(f"{url}/invocations", body, headers=JSON, timeout=PATIENCE)


def behind(url: str, body: str, count: int) -> None:
    """Send requests at once, and wait until they are there."""
    for _ in range(count):
        threading.Thread(target=ask, args=(url, body), daemon=True).start()
    time.sleep(2)


def eight_batches(url: str, process: psutil.Process) -> dict[str, float]:
    """Much work within the limits."""
    behind(url, EXPLAINED, 8)
    waited = honest_wait(url)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    psutil.wait_procs([process], timeout=PATIENCE)
    return {
        "8 requests of 64 images, explained: another's single image is answered after s": waited,
        "then SIGTERM: it has ended after s": time.monotonic() - begun,
    }


def half_heads(url: str, _process: psutil.Process) -> dict[str, float]:
    """Connections that never finish what they say."""
    port = int(url.rpartition(":")[2])
    held = []
    try:
        for _ in range(1020):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
            held[-1].sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n")
    except OSError:
        pass
    waited = honest_wait(url)
    for each in held:
        each.close()
    return {"1,020 connections with half a head: a single image is answered after s": waited}


def pixels(url: str, process: psutil.Process) -> dict[str, float]:
    """Small bodies of large pictures."""
    most = before = process.memory_info().rss
    behind(url, huge(), 3)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and threading.active_count() > 1:
        most = max(most, process.memory_info().rss)
        time.sleep(0.05)
    return {"3 small bodies of 256 megapixels each: memory grows by MB": (most - before) / 1e6}


ATTACKS: tuple[Callable[[str, psutil.Process], dict[str, float]], ...] = (eight_batches, half_heads, pixels)


def measured(code: Path, package: Path) -> dict[str, float]:
    """All attacks on the code of one checkout."""
    found: dict[str, float] = {}
    for attack in ATTACKS:
        with service(code, package) as (url, process):
            found |= attack(url, process)
    return found


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--baseline", type=Path, help="another checkout of this project")
    arguments = parser.parse_args()
    package = arguments.package.resolve()
    ours = measured(ROOT, package)
    theirs = measured(arguments.baseline.resolve(), package) if arguments.baseline else {}
    print(f"(an honest client's patience, and that of SIGTERM, end after {PATIENCE:g} s)")
    for name, value in ours.items():
        compared = f"; before {theirs[name]:.2f}, ratio {theirs[name] / max(value, 0.01):.1f}" if theirs else ""
        print(f"{name} {value:.2f}{compared}")


if __name__ == "__main__":
    main()
