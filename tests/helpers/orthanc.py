"""A real DICOM archive for a test: Orthanc with its DICOMweb plugin, in a folder and on ports of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from service import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "correct-horse"


@dataclass(frozen=True)
class Orthanc:
    """Where it listens: DICOMweb over HTTP, and C-STORE."""

    port: int
    dicom_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def receiver(self) -> str:
        return f"ORTHANC@127.0.0.1:{self.dicom_port}"


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start it with its files below `folder`, yield where it is, and stop it; skips where it is not installed."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed: apt-get install orthanc orthanc-dicomweb")
    folder.mkdir(parents=True, exist_ok=True)
    archive = Orthanc(free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": archive.port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomAet": "ORTHANC",
        "DicomPort": archive.dicom_port,
        "DicomAlwaysAllowStore": True,
        "ConcurrentJobs": 1,
        "HttpThreadsCount": 4,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(archive, process, folder / "log.txt")
        yield archive
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _wait(archive: Orthanc, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Wait until it answers; AssertionError with what it said if it ends or takes too long."""
    import requests

    deadline = time.monotonic() + seconds
    while True:
        try:
            if requests.get(f"{archive.url}/studies", auth=(USER, PASSWORD), timeout=5).ok:
                return
        except requests.RequestException:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Orthanc did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)
