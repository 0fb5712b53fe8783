"""The service under hostile load, over its sockets: it goes on answering others, and ends when it is told to."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import requests
from service import served
from tiny_package import speckle

from bus_mlops.images.model_input import png

IMAGE = base64.b64encode(png(speckle(60, 80))).decode()
ONE: dict[str, Any] = {"dataframe_records": [{"image": IMAGE}]}
JSON = {"Content-Type": "application/json"}
HALF = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n"


def post(url: str, document: Any, **headers: str) -> requests.Response:
    return requests.post(f"{url}/invocations", json.dumps(document), headers={**JSON, **headers}, timeout=60)


def opened(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def wait_for(url: str, status: int) -> None:
    """Until `/ready` says so, which takes no place itself."""
    for _ in range(600):
        if requests.get(f"{url}/ready", timeout=10).status_code == status:
            return
        time.sleep(0.05)
    raise AssertionError(status)


def listener(url: str) -> psutil.Process:
    """The process that serves."""
    port = urlsplit(url).port
    for child in psutil.Process().children(recursive=True):
        if any(each.laddr.port == port and each.status == "LISTEN" for each in child.net_connections("tcp")):
            return child
    raise AssertionError(port)


@pytest.fixture(scope="module")
def busy(package_folder):
    """A service that may be asked much at once, but not for long."""
    with served(package_folder, "--max-images", "4000", "--max-seconds", "1", "--max-requests", "6") as url:
        yield url


ENDLESS = {"dataframe_records": [{"image": IMAGE}] * 4000, "params": {"masks": True, "explanations": True}}


def test_what_takes_too_long_gets_504_and_stops(busy):
    answer = post(busy, ENDLESS)
    assert answer.status_code == 504
    assert "longer than 1 s" in answer.json()["error"]
    serving = listener(busy)
    for _ in range(200):  # the work ends at its next step
        before = sum(serving.cpu_times()[:2])
        time.sleep(0.1)
        if sum(serving.cpu_times()[:2]) - before < 0.03:
            return
    raise AssertionError("the work went on for 20 s after its answer")


def test_single_images_are_answered_beside_batches_and_liveness_is_not_readiness(busy):
    with ThreadPoolExecutor(6) as pool:
        batches = [pool.submit(post, busy, ENDLESS) for _ in range(5)]
        statuses = []
        while not all(batch.done() for batch in batches):
            statuses.append(post(busy, ONE).status_code)
            assert requests.get(f"{busy}/health", timeout=10).status_code == 200
            assert requests.get(f"{busy}/ready", timeout=10).status_code in (200, 503)
        assert {batch.result().status_code for batch in batches} == {504}
    assert 200 in statuses
    assert set(statuses) <= {200, 503}
    assert post(busy, ONE).status_code == 200


def test_refusals_say_when_to_come_again(busy):
    shed: list[requests.Response] = []
    with ThreadPoolExecutor(12) as pool:
        for _ in range(3):  # on a busy machine twelve may come one after the other
            answers = pool.map(lambda _: post(busy, ENDLESS), range(12))
            shed += [answer for answer in answers if answer.status_code == 503]
            if shed:
                break
    assert shed
    assert {answer.headers["Retry-After"] for answer in shed} == {"2"}


def test_a_client_that_leaves_is_not_worked_for(package_folder):
    with served(package_folder, "--max-images", "4000", "--max-requests", "1") as url:
        body = json.dumps(ENDLESS).encode()
        head = HALF + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        with opened(url) as connection:
            connection.sendall(head + body)
            wait_for(url, 503)
        wait_for(url, 200)
        assert post(url, ONE).status_code == 200


def test_more_half_requests_than_connections_keep_nobody_out(service):
    idle = [opened(service) for _ in range(300)]
    for connection in idle:
        connection.sendall(HALF)
    assert [post(service, ONE).status_code for _ in range(3)] == [200] * 3
    # The oldest made room.
    assert idle[0].recv(1) == b""
    for connection in idle:
        connection.close()


def test_half_a_head_is_waited_for_ten_seconds_at_most(service):
    with opened(service) as connection:
        connection.sendall(HALF)
        begun = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - begun > 5  # a slow line is no attack


def test_bodies_that_never_come_whole_take_no_place(service):
    slow = [opened(service) for _ in range(8)]  # twice what may be under way
    for connection in slow:
        connection.sendall(HALF + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    assert post(service, ONE).status_code == 200
    for connection in slow:
        connection.close()


def test_pixels_are_counted_before_they_are_decoded(service):
    flat = base64.b64encode(png(np.zeros((1100, 1100), np.uint8))).decode()  # 1.2 megapixels in two kilobytes
    answer = post(service, {"dataframe_records": [{"image": flat}] * 2})
    assert answer.status_code == 413
    assert "claim 2.4 megapixels: at most 2" in answer.json()["error"]
    assert post(service, {"dataframe_records": [{"image": flat}]}).status_code == 200


def peak(process: psutil.Process, work: Callable[[], Any]) -> int:
    """The most bytes of memory that a process held while the work was done."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # begin anew with what it holds now
    work()
    (line,) = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own peak of a process is asked for")
def test_masks_of_large_pictures_are_made_one_at_a_time(package_folder, monkeypatch):
    # What is freed goes back at once, so that the peak is of what is held, not of what the allocator keeps.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "262144")
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (40, 40), np.uint8), np.ones((50, 50), np.uint8))  # 4 megapixels
    records = [{"image": base64.b64encode(png(picture)).decode()}]
    wanted = {"params": {"masks": True, "explanations": True}}

    def ask(count: int) -> None:
        rows = post(url, {"dataframe_records": records * count, **wanted}).json()["predictions"]
        assert [len(row["mask"]) > 100 for row in rows] == [True] * count

    with served(package_folder, "--max-megapixels", "200") as url:
        ask(1)
        serving = listener(url)
        # All maps at once would take 12 times 20 MB.
        assert peak(serving, lambda: ask(12)) - peak(serving, lambda: ask(1)) < 60e6


@pytest.mark.slow
@pytest.mark.alone
def test_it_ends_within_ten_seconds_under_full_load(package_folder):
    with served(package_folder, "--max-images", "4000") as url:
        serving = listener(url)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(lambda: post(url, ENDLESS)) for _ in range(8)]
            time.sleep(0.5)
            begun = time.monotonic()
            os.kill(serving.pid, signal.SIGTERM)
            psutil.wait_procs([serving], timeout=30)
            took = time.monotonic() - begun
            for each in asked:
                assert each.exception() is not None or each.result().status_code >= 500
    assert not serving.is_running() or serving.status() == psutil.STATUS_ZOMBIE
    assert took < 10


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "scans.example.org"}, 400),
        ({"Host": "localhost:5001"}, 200),
        ({"Host": "[::1]:5001"}, 200),
        ({"Host": "10.0.0.7"}, 200),
        ({"Host": "localhost.example.org"}, 400),
        ({"Host": "[::1"}, 400),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "http://localhost:5001"}, 200),
        ({"Host": "scans.example.org", "Origin": "https://scans.example.org"}, 400),
    ],
)
def test_foreign_names_and_foreign_pages_are_refused(service, headers, status):
    answer = post(service, ONE, **headers)
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]


def test_names_that_were_allowed_are_answered(package_folder):
    with served(package_folder, "--allow-host", "Scans.example.org") as url:
        assert post(url, ONE, Host="scans.EXAMPLE.org").status_code == 200
        assert post(url, ONE, Host="other.example.org").status_code == 400


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/version", "/health", "/ready", "/metrics", "/invocations", "/nothing"]
)
def test_every_answer_has_the_headers_that_a_scanner_looks_for(service, path):
    headers = requests.get(f"{service}{path}", timeout=10).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Server" not in headers
    assert "access-control-allow-origin" not in headers


def test_no_answer_shows_a_path_of_the_server(service, package_folder):
    said = [
        requests.get(f"{service}{path}", timeout=10).text
        for path in ("/version", "/metrics", "/x", "/%2e%2e/etc/passwd")
    ]
    bad = {"dataframe_records": [{"image": base64.b64encode(b"no image").decode()}]}
    said += [post(service, document).text for document in (ONE, bad, {"dataframe_records": 5})]
    for text in said:
        assert str(package_folder.parent) not in text
        assert "/tmp" not in text


def test_fewer_files_than_connections_mean_fewer_connections():
    from bus_mlops.serving.connections import OTHER_FILES, possible_connections

    script = "from bus_mlops.serving.connections import possible_connections as p; print(p(256), p(10))"
    limited = ["bash", "-c", f"ulimit -n 128; exec {sys.executable} -c '{script}'"]
    said = subprocess.run(limited, capture_output=True, text=True, check=True).stdout.split()
    assert said == [str(128 - OTHER_FILES), "10"]
    assert possible_connections(16) == 16
