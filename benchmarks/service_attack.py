"""What hostile requests within the documented limits do to the service: how long others wait, memory, how it ends.

    python benchmarks/service_attack.py PACKAGE [--baseline CHECKOUT] [--log]

serves the package with its defaults, attacks it in three ways, each against a fresh service, and prints what an honest
client and the machine see. With --log it is served a second time, with a log of its answers and with its counters read
each second, and what these cost is printed. With --baseline the same is done with the code of another checkout, which
need know neither log nor counters, and ratios are printed. Both must be able to read the package: older code makes it.
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
import tempfile
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
NEWLINE = b"\n"


def png(pixels: np.ndarray) -> str:
    """An image as base64."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


SMALL = png(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
HONEST = json.dumps({"dataframe_records": [{"image": SMALL}]})
EXPLAINED = json.dumps({"dataframe_records": [{"image": SMALL}] * 64, "params": {"masks": True, "explanations": True}})


def huge() -> str:
    """Less than a megabyte of body that claims 64 pictures of 4 megapixels, with masks."""
    picture = np.zeros((2000, 2000), np.uint8)
    picture[::2, :1000] = 255
    return json.dumps({"dataframe_records": [{"image": png(picture)}] * 64, "params": {"masks": True}})


@contextmanager
def service(code: Path, package: Path, log: Path | None = None) -> Iterator[tuple[str, psutil.Process]]:
    """A service with the code of a checkout, and perhaps a log: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = "from bus_mlops.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", str(package), "--port", str(port)]
    command += [] if log is None else ["--log", str(log)]
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


def behind(url: str, body: str, count: int) -> list[threading.Thread]:
    """Send requests at once, and wait until they are there."""
    senders = [threading.Thread(target=ask, args=(url, body), daemon=True) for _ in range(count)]
    for each in senders:
        each.start()
    time.sleep(2)
    return senders


class Counters:
    """What `/metrics` says while something else goes on, read each second."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.last = ""
        self.waits: list[float] = []
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Counters:
        """Begin to read."""
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read no more."""
        self._ended.set()
        self._reader.join()

    def _read(self) -> None:
        while not self._ended.wait(1):
            begun = time.monotonic()
            try:
                found = requests.get(f"{self.url}/metrics", timeout=PATIENCE)
            except requests.RequestException:
                continue  # as of a service that has ended
            if found.ok:
                self.last = found.text
                self.waits.append(time.monotonic() - begun)

    @property
    def sentence(self) -> str:
        """How often it was read, how long that took, and how many lines it had counted at last."""
        if not self.waits:
            return "/metrics was never read"
        lines = next(
            line.split()[1] for line in self.last.splitlines() if line.startswith("bus_mlops_log_lines_total ")
        )
        return (
            f"/metrics was read {len(self.waits)} times, in {max(self.waits):.2f} s at most, and said {lines} at last"
        )


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
    senders = behind(url, huge(), 3)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and any(each.is_alive() for each in senders):
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


def measured_with_log(code: Path, package: Path) -> tuple[dict[str, float], list[str]]:
    """The same with a log and counters on: the numbers, and what of each attack was written down and counted."""
    found: dict[str, float] = {}
    said = []
    for attack in ATTACKS:
        with tempfile.TemporaryDirectory(prefix="bus-attack-") as folder:
            log = Path(folder) / "answers.jsonl"
            with service(code, package, log) as (url, process), Counters(url) as counters:
                found |= attack(url, process)
            said.append(f"{attack.__name__}: {log.read_bytes().count(NEWLINE)} lines in the log; {counters.sentence}")
    return found, said


def ratio(before: float, after: float) -> str:
    """How many times as much; of what is nothing now it cannot be said."""
    return f"{before / after:.1f}" if after >= 0.01 else "none"


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--baseline", type=Path, help="another checkout of this project")
    parser.add_argument("--log", action="store_true", help="a second time, with a log and with the counters read")
    arguments = parser.parse_args()
    package = arguments.package.resolve()
    if "mask" not in json.loads((package / "package.json").read_text())["outputs"]:
        parser.error(f"{package} has no masks, which the attacks ask for: name the package of a multitask network.")
    ours = measured(ROOT, package)
    logged, said = measured_with_log(ROOT, package) if arguments.log else ({}, [])
    theirs = measured(arguments.baseline.resolve(), package) if arguments.baseline else {}
    print(f"(an honest client's patience, and that of SIGTERM, end after {PATIENCE:g} s)")
    for name, value in ours.items():
        parts = [f"{name} {value:.2f}"]
        parts += [f"with log and counters {logged[name]:.2f}, ratio {ratio(logged[name], value)}"] if logged else []
        parts += [f"before {theirs[name]:.2f}, ratio {ratio(theirs[name], value)}"] if theirs else []
        parts += [f"before to with log and counters {ratio(theirs[name], logged[name])}"] if theirs and logged else []
        print("; ".join(parts))
    print("\n".join(said))


if __name__ == "__main__":
    main()
