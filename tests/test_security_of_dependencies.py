"""`make lint` beyond ruff: what bandit finds, and known vulnerabilities of what is locked."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bandit_beside_ruff import excused, findings
from known_vulnerabilities import affecting, audit, read
from projects import ROOT

HELPERS = ROOT / "tests" / "helpers"
ADVISORY = {
    "id": "PYSEC-0-1",
    "summary": "An example.",
    "published": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "An_Example", "ecosystem": "PyPI"},
            "ranges": [
                {"type": "GIT", "events": [{"introduced": "0"}]},
                {
                    "type": "ECOSYSTEM",
                    "events": [{"introduced": "3"}, {"last_affected": "3.5"}, {"introduced": "0"}, {"fixed": "1.10"}],
                },
            ],
            "versions": ["2.0b1"],
        },
        {"package": {"name": "an-example", "ecosystem": "npm"}, "versions": ["2.2"]},
    ],
}


@pytest.fixture
def advisories(tmp_path) -> Path:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-0-1.json", json.dumps(ADVISORY))
    return tmp_path / "all.zip"


def test_versions_are_matched_as_advisories_say(advisories):
    found = read(advisories)
    versions = {"1.9": True, "1.10": False, "2.0b1": True, "2.2": False, "3.5": True, "3.5.1": False}
    assert {version: bool(affecting(found, "an.example", version)) for version in versions} == versions
    assert affecting(found, "another", "1.9") == []


def test_pip_audit_reads_the_mirrored_file(advisories, tmp_path, capfd):
    requirements = tmp_path / "requirements.txt"
    for version, code in (("1.9", 1), ("1.10", 0)):
        requirements.write_text(f"an-example=={version} --hash=sha256:{'0' * 64}\n")
        assert audit(read(advisories), requirements) == code
    assert "PYSEC-0-1" in capfd.readouterr().out


def test_without_a_mirror_a_note_says_so_and_without_advisories_it_fails(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(HELPERS / "known_vulnerabilities.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    skipped = run("")
    assert (skipped.returncode, skipped.stdout[:8]) == (0, "SKIPPED:")
    empty = run(str(tmp_path))
    assert empty.returncode == 1
    assert "holds no advisory" in empty.stderr


def test_bandit_counts_where_ruff_was_told_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text("eval(input())\nexec(input())  # noqa: S102 - a test\n")
    found = findings(["code.py"])
    assert [each["test_id"] for each in found] == ["B307", "B102"]
    lint = {"ignore": ["S603"], "per-file-ignores": {}}
    assert [excused(each, lint) for each in found] == [False, True]
    assert all(excused(each, {**lint, "per-file-ignores": {"*.py": ["S307"]}}) for each in found)
