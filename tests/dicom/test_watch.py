"""The loop with a real archive (Orthanc), images in and answers out; and with archives that are away, refuse or lag."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from orthanc import PASSWORD, USER, Orthanc, orthanc
from projects import ROOT
from ultrasound import PATIENT, DarkModel, as_bytes, screen
from ultrasound import ultrasound as unsaved

pydicom = pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")

from bus_mlops.dicom import archive as archives  # noqa: E402
from bus_mlops.dicom.archive import Archive, Place, Study  # noqa: E402
from bus_mlops.dicom.identity import uid  # noqa: E402
from bus_mlops.dicom.sending import Receiver  # noqa: E402
from bus_mlops.dicom.watch import Watch  # noqa: E402
from bus_mlops.errors import DicomArchiveError, DicomError  # noqa: E402

LOGIN = {"BUS_MLOPS_DICOMWEB_USERNAME": USER, "BUS_MLOPS_DICOMWEB_PASSWORD": PASSWORD}
# Within which an answer must be there.
SECONDS = 10


def ultrasound(*pixels: Any, **tags: Any) -> Any:
    """As from a file, with a head."""
    return pydicom.dcmread(io.BytesIO(as_bytes(unsaved(*pixels, **tags))))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as started:
        yield started


@pytest.fixture
def archive(server, monkeypatch) -> Archive:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    return Archive(server.url)


def watch(archive: Any, **options: Any) -> Watch:
    model: Any = options.pop("model", None) or DarkModel()
    return Watch(model, archive, options.pop("store", archive.store), interval=0.01, days=0, **options)


def objects(archive: Archive, study: str) -> dict[str, str]:
    """Modality by UID of all that the archive has of a study."""
    search = partial(archive._client.search_for_instances, study, fields=["Modality"])
    return {name: each["00080060"]["Value"][0] for name, each in archive._found(search, "00080018").items()}


def wait_for(condition, process, seconds=SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    return bool(condition())


def test_an_image_goes_in_and_report_and_segmentation_come_back(archive, server, package_folder, tmp_path):
    """As a hospital runs it: the command, a real package, a login; SIGTERM; and no second answer after a restart."""
    image = ultrasound(np.where(screen() > 60, screen(), 0).astype(np.uint8))
    study = image.StudyInstanceUID

    def start():
        command = [sys.executable, "-c", "from bus_mlops.cli import main; main()", "watch", "--dicomweb", server.url]
        command += ["--model", str(package_folder), "--days", "0", "--interval", "0.5", "--log", str(tmp_path / "log")]
        return subprocess.Popen(
            command,
            env={**os.environ, **LOGIN, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    said = ""
    for _ in range(2):
        process = start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said += line
                if " watches " in line:  # it is ready
                    break
            if study not in {each.uid for each in archive.studies("")}:
                archive.store([image])
            complete = wait_for(lambda: len(objects(archive, study)) == 3, process)
            process.send_signal(signal.SIGTERM)
            said += process.communicate(timeout=SECONDS)[0]
            assert (complete, process.returncode) == (True, 0), said
        finally:
            process.kill()
            process.wait()
    assert sorted(objects(archive, study).values()) == ["SEG", "SR", "US"]
    assert said.count("Answered: 2.25.") == 1, said
    assert "1 images were answered" in said
    assert "0 images were answered" in said
    said += (tmp_path / "log").read_text()
    assert not [each for each in (PATIENT, "4711", study, image.SOPInstanceUID) if each in said]


def test_only_ultrasound_is_answered_and_no_answer_is_answered(archive):
    image = ultrasound()
    shared = {"StudyInstanceUID": image.StudyInstanceUID}
    other = ultrasound(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT", **shared)
    damaged = ultrasound(SamplesPerPixel=2, SeriesInstanceUID=image.SeriesInstanceUID, **shared)
    archive.store([image, other, damaged])
    watched = watch(archive)
    watched.look()
    found = objects(archive, image.StudyInstanceUID)
    assert sorted(found.values()) == ["CT", "SEG", "SR", "US", "US"]
    answered = watched.answered
    for _ in range(3):
        watched.look()
    again = watch(archive)
    again.look()
    assert (watched.answered, again.answered) == (answered, 0)
    assert objects(archive, image.StudyInstanceUID) == found


def test_an_image_that_comes_later_is_answered_and_another_model_answers_for_itself(archive):
    first = ultrasound()
    archive.store([first])
    watched = watch(archive)
    watched.look()
    count = watched.answered
    later = ultrasound(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
    archive.store([later])
    watched.look()
    assert watched.answered == count + 1
    other: Any = DarkModel()
    other.digest = "cd" * 32
    watch(archive, model=other).look()
    assert {
        uid("SR", image.SOPInstanceUID, digest) for image in (first, later) for digest in ("ab" * 32, "cd" * 32)
    } <= {*objects(archive, first.StudyInstanceUID)}


def test_answers_are_sent_as_scanners_send_images(archive, server):
    image = ultrasound()
    archive.store([image])
    watch(archive, store=Receiver.parsed(server.receiver).store).look()
    assert sorted(objects(archive, image.StudyInstanceUID).values()) == ["SEG", "SR", "US"]
    gone = Receiver("NOBODY", "127.0.0.1", 1)
    with pytest.raises(DicomArchiveError, match=r"NOBODY@127\.0\.0\.1:1 cannot be reached"):
        gone.store([image])


def test_a_login_that_is_refused_says_what_to_set(server, monkeypatch):
    for name in LOGIN:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DicomArchiveError, match=r"status 401.*BUS_MLOPS_DICOMWEB_USERNAME"):
        Archive(server.url).studies("")


@pytest.mark.parametrize("url", ["localhost:8042", "ftp://archive/", "http://me:secret@archive/dicom-web"])
def test_an_address_that_cannot_be_is_refused_without_repeating_a_password(url):
    with pytest.raises(DicomArchiveError) as raised:
        Archive(url)
    assert "secret" not in str(raised.value)


class Strange(BaseHTTPRequestHandler):
    """Answers as broken archives and proxies do."""

    server: Any

    def do_GET(self):
        if self.server.mode == "silent":
            self.server.released.wait(30)
            return
        status, content = {"html": (200, b"<html>login</html>"), "error": (503, b""), "list": (200, b'[{"a": 3}]')}[
            self.server.mode
        ]
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def strange() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as server:
        found: Any = server
        found.released = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.released.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("mode", "message"),
    [("html", "no DICOMweb"), ("error", "status 503"), ("silent", "does not answer in time")],
)
def test_an_archive_that_answers_strangely_or_not_at_all_is_an_error_of_ours(strange, mode, message, monkeypatch):
    monkeypatch.setattr(archives, "PATIENCE", (0.3, 0.3))
    strange.mode = mode
    with pytest.raises(DicomArchiveError, match=message):
        Archive(f"http://127.0.0.1:{strange.server_port}").studies("")


class Flaky:
    """An archive that is away for the first looks, then gives one study of images that cannot all be read."""

    url = "http://archive"

    def __init__(self, away: int) -> None:
        self.away = away
        self.asked = 0
        self.stored: list[Any] = []
        self.stop = threading.Event()

    def studies(self, dates: str) -> list[Study]:
        self.asked += 1
        if self.asked <= self.away:
            raise DicomArchiveError("it is away.")
        if self.asked > self.away + 2:
            self.stop.set()
        return [Study("1.2.3", None)]

    def images(self, study: str) -> list[Place]:
        return [Place(study, "1.2.3.4", f"1.2.3.4.{number}", 0) for number in range(3)]

    def reports(self, study: str, digest: str) -> set[str]:
        return {uid("SR", "1.2.3.4.0", digest)}

    def retrieve(self, place: Place) -> Any:
        from bus_mlops.dicom.reading import image_of

        if place.instance.endswith("1"):
            raise DicomError("an image is damaged.")
        return image_of(ultrasound(SOPInstanceUID=place.instance), "an image")

    def store(self, instances: Any) -> None:
        self.stored += instances


def test_an_archive_that_is_away_is_asked_ever_more_seldom_and_what_is_damaged_keeps_nobody_up(caplog, monkeypatch):
    flaky = Flaky(away=3)
    waits: list[float] = []
    watched = watch(flaky, stop=flaky.stop)
    monkeypatch.setattr(flaky.stop, "wait", lambda seconds: waits.append(seconds))
    with caplog.at_level("INFO", logger="bus_mlops"):
        watched.run()
    assert waits[:3] == [0.02, 0.04, 0.08]
    assert set(waits[3:]) == {0.01}
    assert watched.answered == 1
    assert [type(each).__name__ for each in flaky.stored] == ["Segmentation", "ComprehensiveSR"]
    assert caplog.text.count("an image is damaged.") == 1
    assert "answers again" in caplog.text


def test_a_stop_ends_the_work_on_an_image_and_nothing_is_stored():
    flaky = Flaky(away=0)
    watched = watch(flaky, stop=flaky.stop)
    model: Any = watched.model
    stream = model.stream

    def stopped(*arguments, **options):
        flaky.stop.set()
        return stream(*arguments, **options)

    model.stream = stopped
    watched.run()
    assert (flaky.stored, watched.answered) == ([], 0)
