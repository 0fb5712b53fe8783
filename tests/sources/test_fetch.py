"""`bus-mlops sources fetch` against a real HTTP server that fails in every way servers do."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sources import HMSS_HEADER, THAMMASAT_HEADER, busi_folder, hmss_row

from bus_mlops.config import DataConfig
from bus_mlops.errors import ConfigError, SourceError
from bus_mlops.sources.download import Client, Manners
from bus_mlops.sources.fetch import Fetched, fetch, read_list
from bus_mlops.sources.hmss import SOURCE
from bus_mlops.sources.phantoms.write import NOTICE
from bus_mlops.sources.registry import NOTICE_FILE, SOURCES, read_sources

ROOT = Path(__file__).parents[2]
QUICK = Manners(rate=1000, attempts=3, backoff=0.01, timeout=1, deadline=1.2)


def jpeg(shade: int = 0, form: str = "JPEG") -> bytes:
    """A photograph-like picture of some kilobytes, so that half of it is missed."""
    pixels = np.random.default_rng(shade).integers(0, 255, (60, 80)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers a path with its next scripted behaviour; the last one stays."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, time.monotonic()))
        self.server.agents.add(self.headers["User-Agent"])
        script = self.server.scripts.get(self.path, [whole()])
        answer = script.pop(0) if len(script) > 1 else script[0]
        self.close_connection = True
        answer(self)

    def log_message(self, *_: object) -> None:
        pass

    def send(self, body: bytes, status: int = 200, kind: str = "image/jpeg", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in {"Content_Type": kind, **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Keeps what was asked, and what to answer."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.scripts: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, float]] = []
        self.agents: set[str] = set()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, path: str) -> int:
        return sum(each == path for each, _ in self.requests)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


def whole(shade: int = 0, form: str = "JPEG") -> Answer:
    return lambda handler: handler.send(jpeg(shade, form))


def status(code: int, **headers: str) -> Answer:
    return lambda handler: handler.send(b"<html>sorry</html>", code, "text/html", **headers)


def truncated(handler: Handler) -> None:
    body = jpeg()
    handler.send(body[: len(body) // 2], Content_Length=str(len(body)))


def truncated_without_length(handler: Handler) -> None:
    body = jpeg()
    handler.send(body[: len(body) // 2], Content_Length="", Connection="close")


def truncated_chunk(handler: Handler) -> None:
    handler.send(b"400\r\n" + jpeg()[:300], Content_Length="", Transfer_Encoding="chunked")


def page(handler: Handler) -> None:
    handler.send(b"<!DOCTYPE html><title>Please log in</title>", kind="text/html")


def page_called_image(handler: Handler) -> None:
    handler.send(b"<!DOCTYPE html><title>Not found</title>")


def empty(handler: Handler) -> None:
    handler.send(b"")


def silent(_: Handler) -> None:
    time.sleep(1.8)


def hung_up(handler: Handler) -> None:
    handler.connection.close()


def dripping(handler: Handler) -> None:
    handler.send(b"", Content_Length="100000")
    try:
        for _ in range(40):
            handler.wfile.write(b"\xff")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = Server()
    yield started
    started.stop()


def table(folder: Path, server: Server, names: list[str], paths: list[str] | None = None) -> Path:
    urls = [f"{server.url}{path}" for path in paths or [f"/{name}.jpg" for name in names]]
    rows = [hmss_row(name, name, "Benign", url=url) for name, url in zip(names, urls, strict=True)]
    path = folder / "mine.csv"
    path.write_text("\n".join([HMSS_HEADER, *rows]) + "\n", encoding="utf-8-sig")
    return path


def go(metadata: Path, root: Path, manners: Manners = QUICK) -> Fetched:
    return fetch(SOURCE, metadata, root, Client(manners))


def images(root: Path) -> list[str]:
    """Everything in the folder of images, hidden files too."""
    return sorted(path.name for path in (root / "hmss" / "imgs").iterdir())


def test_downloads_what_the_table_lists_and_the_reader_takes_it(server, tmp_path):
    names = ["2879", "12345-Afbeelding2"]
    server.scripts["/2879.jpg"] = [whole(1)]
    metadata = table(tmp_path, server, names)
    seen: list[str] = []
    result = fetch(SOURCE, metadata, tmp_path / "raw", Client(QUICK), lambda image: seen.append(image.name))
    assert (result.complete, result.downloaded, result.there, result.failures) == (True, 2, 0, [])
    assert images(tmp_path / "raw") == ["12345-Afbeelding2.jpg", "2879.jpg"]
    assert (tmp_path / "raw" / "hmss" / "imgs" / "2879.jpg").read_bytes() == jpeg(1)  # untouched, to the byte
    assert (tmp_path / "raw" / "hmss" / "HMSS.csv").read_bytes() == metadata.read_bytes()
    records = read_sources(DataConfig(kind="real", root=tmp_path / "raw", sources="all"))
    assert [record.name for record in records] == ["12345-Afbeelding2", "2879"]
    assert seen == names
    (agent,) = server.agents
    assert agent.startswith("bus-mlops/")


def test_a_second_run_asks_for_nothing_that_is_there(server, tmp_path):
    metadata = table(tmp_path, server, ["1", "2"])
    go(metadata, tmp_path)
    asked = len(server.requests)
    result = go(metadata, tmp_path)
    assert (result.there, result.downloaded, result.complete) == (2, 0, True)
    assert len(server.requests) == asked


def test_a_damaged_file_is_replaced(server, tmp_path):
    metadata = table(tmp_path, server, ["1", "2"])
    folder = tmp_path / "hmss" / "imgs"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(jpeg()[:500])
    (folder / "2.png").write_bytes(b"")
    result = go(metadata, tmp_path)
    assert (result.there, result.downloaded, result.replaced) == (0, 2, 2)
    assert images(tmp_path) == ["1.jpg", "2.jpg"]
    assert (folder / "1.jpg").read_bytes() == jpeg()


@pytest.mark.parametrize(
    "fault",
    [
        status(500), status(502), status(503, Retry_After="0"), status(429), truncated, truncated_without_length,
        truncated_chunk, empty, silent, hung_up, dripping,
    ],
    ids=[
        "500", "502", "503", "429", "truncated", "truncated without length", "truncated chunk", "empty", "silent",
        "hung up", "dripping",
    ],
)  # fmt: skip
def test_a_passing_fault_is_tried_again(server, tmp_path, fault):
    server.scripts["/1.jpg"] = [fault, whole(5)]
    result = go(table(tmp_path, server, ["1"]), tmp_path)
    assert result.complete
    assert server.asked("/1.jpg") == 2
    assert (tmp_path / "hmss" / "imgs" / "1.jpg").read_bytes() == jpeg(5)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(500), "the server answered 500"),
        (truncated, r"the connection ended after [\d,]+ of [\d,]+ bytes"),
        (truncated_without_length, "is damaged"),
        (truncated_chunk, "the connection broke"),
        (silent, "silent for 1 seconds"),
        (hung_up, "the connection broke"),
        (empty, "empty body"),
        (dripping, "it was not finished after 1.2 seconds"),
    ],
)
def test_a_lasting_fault_fails_that_image_alone_and_leaves_no_file(server, tmp_path, fault, reason):
    server.scripts["/1.jpg"] = [fault]
    result = go(table(tmp_path, server, ["1", "2"]), tmp_path)
    assert images(tmp_path) == ["2.jpg"]
    (failure,) = result.failures
    assert failure.image.name == "1"
    assert failure.reason.endswith("(after 3 attempts)")
    assert re.search(reason, failure.reason), failure.reason
    assert (server.asked("/1.jpg"), result.complete, result.stopped) == (3, False, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (page, "text/html instead of an image"),
        (page_called_image, "no JPEG, PNG or BMP"),
        (status(404), "answered 404"),
        (status(403), "answered 403"),
        (whole(0, "GIF"), "no JPEG, PNG or BMP"),
    ],
)
def test_what_is_no_image_is_refused_at_once(server, tmp_path, answer, reason):
    server.scripts["/1.jpg"] = [answer]
    result = go(table(tmp_path, server, ["1", "2"]), tmp_path)
    assert images(tmp_path) == ["2.jpg"]
    assert reason in result.failures[0].reason
    assert server.asked("/1.jpg") == 1


@pytest.mark.parametrize(("form", "suffix"), [("PNG", ".png"), ("BMP", ".bmp"), ("JPEG", ".jpg")])
def test_the_content_gives_the_suffix(server, tmp_path, form, suffix):
    server.scripts["/1.jpg"] = [whole(0, form)]
    go(table(tmp_path, server, ["1"]), tmp_path)
    assert images(tmp_path) == [f"1{suffix}"]


def test_redirects_are_followed_but_not_out_of_http(server, tmp_path):
    server.scripts["/1.jpg"] = [status(302, Location="/elsewhere.jpg")]
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg())
    server.scripts["/2.jpg"] = [status(302, Location=secret.as_uri())]
    result = go(table(tmp_path, server, ["1", "2"]), tmp_path)
    assert images(tmp_path) == ["1.jpg"]
    assert [failure.image.name for failure in result.failures] == ["2"]


def test_urls_that_are_not_http_are_never_opened(server, tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg())
    metadata = table(tmp_path, server, ["1", "2", "3"], ["/a b/ü.jpg?x=1 2", "/x", "/y"])
    text = metadata.read_text("utf-8-sig").replace(f"{server.url}/x", secret.as_uri()).replace(f"{server.url}/y", "")
    metadata.write_text(text, "utf-8-sig")
    result = go(metadata, tmp_path)
    assert images(tmp_path) == ["1.jpg"]
    assert server.requests[0][0] == "/a%20b/%C3%BC.jpg?x=1%202"
    assert [failure.image.where.split()[-1] for failure in result.failures] == ["3", "4"]
    assert all("is not an http or https URL" in failure.reason for failure in result.failures)


def test_never_faster_than_the_rate_retries_included(server, tmp_path):
    server.scripts["/1.jpg"] = [status(500), whole()]
    go(table(tmp_path, server, ["1", "2", "3"]), tmp_path, Manners(rate=5, attempts=3, backoff=0.001))
    times = [moment for _, moment in server.requests]
    assert len(times) == 4
    assert times[-1] - times[0] > 0.5  # 3/5 of a second but for what the first request was late


def test_waits_grow_and_the_servers_own_wish_is_kept(server, tmp_path):
    waits: list[float] = []
    server.scripts["/1.jpg"] = [status(500), status(500), status(503, Retry_After="7"), whole()]
    client = Client(Manners(rate=1e6, attempts=5, backoff=1), sleep=waits.append)
    assert fetch(SOURCE, table(tmp_path, server, ["1"]), tmp_path, client).complete
    pauses = [wait for wait in waits if wait > 0.01]
    assert 0.8 <= pauses[0] <= 1.2
    assert 1.6 <= pauses[1] <= 2.4
    assert pauses[2] == 7


def test_a_server_that_stops_ends_the_fetch_and_a_later_run_goes_on(server, tmp_path):
    names = [str(number) for number in range(30)]
    metadata = table(tmp_path, server, names)
    port = server.server_port

    def stop_at_ten(image: object) -> None:
        if len(server.requests) == 10:
            server.stop()

    result = fetch(SOURCE, metadata, tmp_path, Client(QUICK), stop_at_ten)
    assert (result.downloaded, len(result.failures), result.not_tried) == (10, 3, 17)
    assert "the server failed 3 images in a row" in result.stopped
    assert len(images(tmp_path)) == 10
    again = Server(port)
    try:
        result = go(metadata, tmp_path)
        assert (result.there, result.downloaded, result.complete) == (10, 20, True)
        assert len(again.requests) == 20
    finally:
        again.stop()


def test_failures_with_successes_between_them_do_not_end_the_fetch(server, tmp_path):
    names = [str(number) for number in range(9)]
    for name in names:
        server.scripts[f"/{name}.jpg"] = [whole() if name in "258" else hung_up]
    result = go(table(tmp_path, server, names), tmp_path)
    assert (result.downloaded, len(result.failures), result.stopped) == (3, 6, "")


def test_a_site_that_answers_with_pages_is_not_asked_for_everything(server, tmp_path):
    names = [str(number) for number in range(40)]
    for name in names:
        server.scripts[f"/{name}.jpg"] = [page]
    result = go(table(tmp_path, server, names), tmp_path)
    assert len(server.requests) == len(result.failures) == 20
    assert result.stopped.startswith("20 images in a row failed")


def test_images_that_are_gone_do_not_end_the_fetch(server, tmp_path):
    names = [str(number) for number in range(30)]
    for name in names[:29]:
        server.scripts[f"/{name}.jpg"] = [status(404)]
    result = go(table(tmp_path, server, names), tmp_path)
    assert (result.downloaded, len(result.failures), result.stopped) == (1, 29, "")


def test_other_tables_phantoms_and_bad_lists_are_refused(server, tmp_path):
    metadata = table(tmp_path, server, ["1"])
    go(metadata, tmp_path / "raw")
    (tmp_path / "raw" / "hmss" / "HMSS.csv").write_text("other")
    with pytest.raises(SourceError, match=r"HMSS.csv is there already and differs from"):
        go(metadata, tmp_path / "raw")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / NOTICE_FILE).write_text(NOTICE)
    with pytest.raises(ConfigError, match="holds synthetic images"):
        go(metadata, tmp_path / "p")
    with pytest.raises(SourceError, match=r"missing\.csv not found"):
        read_list(tmp_path / "missing.csv", SOURCE)
    with pytest.raises(SourceError, match=r"row 3: image name '1' was already used by .*row 2"):
        read_list(table(tmp_path, server, ["1", "1"]), SOURCE)
    with pytest.raises(SourceError, match="plain name without a path"):
        read_list(table(tmp_path, server, ["../../1"]), SOURCE)
    with pytest.raises(SourceError, match="too long for a file"):
        read_list(table(tmp_path, server, ["x" * 300]), SOURCE)
    with pytest.raises(ConfigError, match="busi cannot be downloaded: its owner decides"):
        read_list(metadata, SOURCES["busi"])


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", "from bus_mlops.cli import main; main()", "sources", "fetch", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def run(folder: Path, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments), cwd=folder, env=environment(), input=answer, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_nothing_is_downloaded_without_permission(server, tmp_path):
    metadata = str(table(tmp_path, server, ["1"]))
    for answer in ("", "n\n", "\n"):
        done = run(tmp_path, "hmss", "--metadata", metadata, "--root", "raw", answer=answer)
        assert done.returncode == 1
        assert "HMSS: 1 images listed, from 127.0.0.1" in done.stdout
        assert "without the owner's permission it must not be" in done.stderr
    assert server.requests == []
    assert not (tmp_path / "raw").exists()
    done = run(tmp_path, "hmss", "--metadata", metadata, "--root", "raw", answer="y\n")
    assert done.returncode == 0, done.stderr
    assert images(tmp_path / "raw") == ["1.jpg"]


def test_command_says_what_failed_and_exits_with_1(server, tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"{server.url}/{n}.jpg,Case-{n}-U1,Case-{n},benign,1,5,1,5" for n in (1, 2)]
    path.write_text("\n".join([THAMMASAT_HEADER, *rows]) + "\n")
    server.scripts["/2.jpg"] = [page, whole()]
    arguments = ("thammasat", "--metadata", str(path), "--rate", "10", "--i-have-permission")
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert "2 listed: 0 were there, 1 downloaded, 1 failed, 0 not tried." in done.stdout
    assert f"failed: Case-2-U1 ({path} row 3): the server sent text/html instead of an image" in done.stderr
    assert "Run the same command again" in done.stderr
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "1 were there, 1 downloaded" in done.stdout
    assert (tmp_path / "data" / "raw" / "thammasat" / "imgs" / "Case-2-U1.jpg").is_file()


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_leaves_whole_images_and_goes_on_later(server, tmp_path, blow):
    names = [str(number) for number in range(12)]
    metadata = table(tmp_path, server, names)
    arguments = ("hmss", "--metadata", str(metadata), "--root", "raw", "--rate", "4", "--i-have-permission")
    process = subprocess.Popen(
        command(tmp_path, *arguments), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    end = time.monotonic() + 30
    while len(server.requests) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(blow)
    _, errors = process.communicate(timeout=30)
    if blow == signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command again" in errors
    folder = tmp_path / "raw" / "hmss" / "imgs"
    (folder / ".9.jpg.abcd1234.jpg").write_bytes(b"half")  # as if it had been killed while it wrote
    for path in folder.glob("[!.]*"):
        assert path.read_bytes() == jpeg()
    first = len(server.requests)
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert images(tmp_path / "raw") == sorted(f"{name}.jpg" for name in names)
    assert 12 <= len(server.requests) <= 13
    assert first < 12


def test_a_metadata_table_that_lies_where_it_belongs_is_left_alone(server, tmp_path):
    busi_folder(tmp_path / "busi")
    (tmp_path / "hmss").mkdir()
    metadata = tmp_path / "hmss" / "HMSS.csv"
    table(tmp_path, server, ["1"]).rename(metadata)
    assert go(metadata, tmp_path).complete
    assert images(tmp_path) == ["1.jpg"]
