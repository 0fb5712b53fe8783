"""`bus-mlops sources fetch` of what owners offer under a licence, from a real HTTP server that fails as servers do."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from tiny_sources import bus_uclm_folder
from typer.testing import CliRunner

from bus_mlops.cli.sources import sources_app
from bus_mlops.errors import ConfigError, SourceError
from bus_mlops.sources.phantoms.write import NOTICE
from bus_mlops.sources.registry import NOTICE_FILE, SOURCES
from bus_mlops.sources.release import KEPT, Patience, fetch_release
from bus_mlops.sources.source import Archive, Release, Source

CHUNK = 16_384
QUICK = Patience(attempts=3, pause=0.0, timeout=2, sleep=lambda _: None)


class Handler(BaseHTTPRequestHandler):
    """Serves the bytes of `server.body`, in part where asked for, as the next of `server.script` says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        told, body = self.server, self.server.body
        asked, mark = self.headers.get("Range", ""), self.headers.get("If-Range", told.etag)
        told.ranges.append(asked)
        what = told.script.pop(0) if told.script else "whole"
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.close_connection = True
        if what.isdigit() or (start and start >= len(body)):
            self.send_response(int(what) if what.isdigit() else 416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        resumed = bool(asked) and mark == told.etag and what != "from the beginning"
        rest = body[start:] if resumed else body
        self.send_response(206 if resumed else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", told.etag)
        if resumed:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if what == "half" else rest)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """What is served, how, and what was asked."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag = body, '"one"'
        self.script: list[str] = []
        self.ranges: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/uclm.zip"

    def stop(self) -> None:
        """Answer nobody any more."""
        self.shutdown()
        self.server_close()


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """BUS-UCLM as its owner zips it."""
    folder = bus_uclm_folder(tmp_path_factory.mktemp("made"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, f"BUS-UCLM segmentation/{path.relative_to(folder)}")
        archive.writestr("readme.bin", np.random.default_rng(0).bytes(20 * CHUNK))  # so that parts of it are kept
    return buffer.getvalue()


@pytest.fixture
def server(content):
    made = Server(content)
    yield made
    made.stop()


def offered(url: str, checksum: str | None) -> Source:
    release = Release("CC BY 4.0", "https://example.org/page", "Somebody 2025", (Archive("uclm.zip", url, checksum),))
    return replace(SOURCES["bus_uclm"], release=release)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def fetched(server: Server, content: bytes, root, checksum: str | None = "its own"):
    source = offered(server.url, sha256(content) if checksum == "its own" else checksum)
    return fetch_release(source, root, QUICK)


def kept(root):
    return sorted(path.name for path in (root / KEPT / "bus_uclm").iterdir())


def test_what_arrives_is_read_at_once_and_nothing_else_is_left(server, content, tmp_path):
    told: list[tuple[str, int, int]] = []
    source = offered(server.url, sha256(content))
    (arrived,) = fetch_release(source, tmp_path, QUICK, lambda *each: told.append(each))
    assert f"sha256:{arrived.sha256}" == sha256(content)
    assert arrived.known
    assert [record.name for record in source.read(tmp_path / "bus_uclm")] == ["ALWI_000", "ANAT_000"]
    assert [path.name for path in tmp_path.iterdir()] == ["bus_uclm"]
    assert told[-1] == ("uclm.zip", len(content), len(content))


@pytest.mark.parametrize("form", ["md5", "sha256"])
def test_another_checksum_is_refused_and_what_arrived_is_thrown_away(server, content, tmp_path, form):
    wrong = f"{form}:{hashlib.new(form, b'another file').hexdigest()}"
    with pytest.raises(SourceError, match=r"uclm\.zip is not the file that was expected.*example\.org/page should say"):
        fetched(server, content, tmp_path, wrong)
    assert kept(tmp_path) == []
    assert not (tmp_path / "bus_uclm").exists()
    assert len(server.ranges) == 1
    fetched(server, content, tmp_path)
    assert (tmp_path / "bus_uclm").is_dir()


def test_a_broken_transfer_goes_on_where_it_broke(server, content, tmp_path):
    server.script += ["half", "half", "503"]
    fetched(server, content, tmp_path)
    kept = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.ranges[1:]]
    assert 0 < kept[0] <= len(content) / 2 < kept[1] < 3 * len(content) / 4 + 1
    assert kept[1:] == [kept[1], kept[1]]


def test_a_later_run_goes_on_where_this_one_ended(server, content, tmp_path):
    server.script += ["half", "503", "503", "503"]
    with pytest.raises(SourceError) as raised:
        fetched(server, content, tmp_path)
    have = (tmp_path / KEPT / "bus_uclm" / "uclm.zip.part").stat().st_size
    assert 0 < have <= len(content) / 2
    assert re.search(rf"did not arrive: 503.* {have:,} bytes of it are kept\. Run the command again", str(raised.value))
    fetched(server, content, tmp_path)
    assert server.ranges[-1] == f"bytes={have}-"


@pytest.mark.parametrize("change", ["no ranges", "another version", "a shorter file", "killed when it was whole"])
def test_what_is_kept_is_never_joined_with_something_else(server, content, tmp_path, change):
    server.script += ["half", "503", "503", "503"]
    with pytest.raises(SourceError):
        fetched(server, content, tmp_path)
    part = tmp_path / KEPT / "bus_uclm" / "uclm.zip.part"
    if change == "no ranges":
        server.script.append("from the beginning")
    elif change == "another version":
        part.write_bytes(b"x" * part.stat().st_size)
        server.etag = '"two"'
    elif change == "a shorter file":
        part.write_bytes(b"x" * (len(content) + 9))
    else:
        part.write_bytes(content)
    fetched(server, content, tmp_path)
    assert len(SOURCES["bus_uclm"].read(tmp_path / "bus_uclm")) == 2


@pytest.mark.parametrize("status", ["403", "404", "410"])
def test_a_refusal_is_not_repeated(server, content, tmp_path, status):
    server.script += [status] * 3
    with pytest.raises(SourceError, match=status):
        fetched(server, content, tmp_path)
    assert len(server.ranges) == 1


def test_without_a_network_it_says_what_to_do_and_takes_what_is_put_there(server, content, tmp_path):
    server.stop()
    with pytest.raises(SourceError) as raised:
        fetched(server, content, tmp_path)
    place = tmp_path / KEPT / "bus_uclm" / "uclm.zip"
    for words in ("refused", f"put it there as {place}", "checked and unpacked", "https://example.org/page"):
        assert words in str(raised.value)
    assert len(str(raised.value)) < 1000
    place.write_bytes(content)
    (arrived,) = fetched(server, content, tmp_path)
    assert arrived.known


def test_a_checksum_that_nobody_publishes_is_told_afterwards(server, content, tmp_path):
    (arrived,) = fetched(server, content, tmp_path, None)
    assert (f"sha256:{arrived.sha256}", arrived.known) == (sha256(content), False)


def zipped(name: str, link: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o120777 if link else 0o100644) << 16
        archive.writestr(info, "elsewhere")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (zipped("../out.txt"), "leaves the folder"),
        (zipped("/out.txt"), "leaves the folder"),
        (zipped("C:/out.txt"), "leaves the folder"),
        (zipped("images", link=True), "a link or a path"),
        (b"<html>Please log in</html>", "cannot be unpacked"),
    ],
)
def test_an_archive_that_must_not_be_unpacked_is_refused_by_name(server, tmp_path, body, complaint):
    server.body = body
    with pytest.raises(SourceError, match=complaint):
        fetched(server, body, tmp_path / "root", None)
    assert not (tmp_path / "root" / "bus_uclm").exists()
    assert not (tmp_path / "out.txt").exists()


def test_nothing_is_downloaded_over_what_is_there_or_among_phantoms(server, content, tmp_path):
    bus_uclm_folder(tmp_path / "bus_uclm")
    with pytest.raises(ConfigError, match="is there already"):
        fetched(server, content, tmp_path)
    (tmp_path / "phantom").mkdir()
    (tmp_path / "phantom" / NOTICE_FILE).write_text(NOTICE)
    with pytest.raises(ConfigError, match="synthetic"):
        fetched(server, content, tmp_path / "phantom")
    assert server.ranges == []


def test_every_release_names_licence_page_publication_and_what_is_checked():
    releases = {name: source.release for name, source in SOURCES.items() if source.release}
    assert set(releases) == {"busbra", "breast", "bus_uclm"}
    for name, release in releases.items():
        assert "CC BY 4.0" in release.licence
        assert release.page.startswith("https://doi.org/")
        assert "https://doi.org/" in release.cite
        for file in release.files:
            assert file.url.startswith("https://")
            assert re.fullmatch("sha256:[0-9a-f]{64}", file.checksum or "") or name == "bus_uclm"


@pytest.mark.parametrize(("name", "why"), [("gdph_sysucc", "state no licence"), ("buid", "state no licence")])
def test_what_no_licence_allows_is_not_downloaded_and_said(tmp_path, name, why):
    with pytest.raises(ConfigError, match=rf"{name} cannot be downloaded: .*{why}.*folder {name}/"):
        fetch_release(SOURCES[name], tmp_path)


@pytest.mark.parametrize(
    ("answer", "flags", "asked"), [("y\n", [], 1), ("n\n", [], 0), ("", [], 0), ("", ["--i-accept-the-licence"], 1)]
)
def test_the_licence_is_shown_before_anything_is_asked_of_a_server(
    server, content, tmp_path, monkeypatch, answer, flags, asked
):
    monkeypatch.setitem(SOURCES, "bus_uclm", offered(server.url, sha256(content)))
    done = CliRunner().invoke(sources_app, ["fetch", "bus_uclm", "--root", str(tmp_path), *flags], input=answer)
    assert done.stdout.index("licence: CC BY 4.0") < done.stdout.index("Cite: Somebody 2025")
    assert len(server.ranges) == asked
    assert (done.exit_code == 0) == bool(asked)
    if asked:
        assert f"sha256 {sha256(content)[7:]}, as known beforehand" in done.stdout
        assert "Next: bus-mlops sources verify" in done.stdout
    else:
        assert isinstance(done.exception, ConfigError)
        assert "nothing was downloaded" in str(done.exception)


def test_a_table_is_asked_for_where_one_is_needed_and_refused_where_not(tmp_path):
    for arguments, complaint in ((["hmss"], "--metadata HMSS.csv"), (["busbra", "--metadata", "x.csv"], "as a whole")):
        done = CliRunner().invoke(sources_app, ["fetch", *arguments, "--root", str(tmp_path)])
        assert complaint in str(done.exception)
