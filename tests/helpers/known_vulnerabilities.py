"""pip-audit on the lock file, with advisories from a file: no network is asked.

python tests/helpers/known_vulnerabilities.py ADVISORIES [REQUIREMENTS]

ADVISORIES: a zip or a folder of OSV's JSON files, as https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip.
Without it a note says that nothing was looked up. pip-audit asks a server of OSV: here it is one on this machine, which
answers from the file for as long as pip-audit runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

NOTE = (
    "SKIPPED: known vulnerabilities of the lock file were not looked up. Fetch "
    "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip, then: make lint ADVISORIES=all.zip"
)
Advisories = dict[str, list[dict[str, Any]]]


def read(path: Path) -> Advisories:
    """The advisories of a zip or a folder, by canonical name of the package."""
    found: Advisories = defaultdict(list)
    count = 0
    for content in _documents(path):
        count += 1
        advisory = json.loads(content)
        names = {canonicalize_name(each["package"]["name"]) for each in advisory.get("affected", []) if _is_pypi(each)}
        for name in names:
            found[name].append(advisory)
    if not count:
        raise SystemExit(f"{path} holds no advisory: it must be a zip or a folder of OSV's JSON files.")
    return found


def _documents(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        yield from (file.read_bytes() for file in path.rglob("*.json"))
        return
    with zipfile.ZipFile(path) as archive:
        yield from (archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def _is_pypi(affected: dict[str, Any]) -> bool:
    return bool(affected.get("package", {}).get("ecosystem") == "PyPI")


def affecting(advisories: Advisories, name: str, version: str) -> list[dict[str, Any]]:
    """The advisories of one version of a package, as OSV's server would answer them."""
    canonical = canonicalize_name(name)
    return [
        advisory
        for advisory in advisories.get(canonical, [])
        if any(
            _is_pypi(each) and canonicalize_name(each["package"]["name"]) == canonical and _covers(each, version)
            for each in advisory["affected"]
        )
    ]


def _covers(affected: dict[str, Any], version: str) -> bool:
    if version in affected.get("versions", []):
        return True
    return any(
        _in_range(each["events"], Version(version))
        for each in affected.get("ranges", [])
        if each["type"] == "ECOSYSTEM"
    )


def _in_range(events: list[dict[str, str]], version: Version) -> bool:
    """Whether the last event that is not after a version introduced the flaw."""
    inside = False
    for event in sorted(events, key=lambda event: _version(next(iter(event.values())))):
        ((kind, value),) = event.items()
        at = _version(value)
        if kind == "introduced" and at <= version:
            inside = True
        elif (kind == "fixed" and at <= version) or (kind == "last_affected" and at < version):
            inside = False
    return inside


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def audit(advisories: Advisories, requirements: Path) -> int:
    """Run pip-audit; its exit code."""

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = affecting(advisories, asked["package"]["name"], asked["version"])
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server, tempfile.TemporaryDirectory() as cache:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--disable-pip", "--no-deps"]
        command += ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/"]
        code = subprocess.run([*command, "--progress-spinner", "off", "--cache-dir", cache], check=False).returncode
        server.shutdown()
    return code


def main() -> None:
    """As the command line says."""
    given, *more = [*sys.argv[1:], ""]
    if not given:
        print(NOTE)
        return
    raise SystemExit(audit(read(Path(given)), Path(next(filter(None, more), "requirements.lock"))))


if __name__ == "__main__":
    main()
