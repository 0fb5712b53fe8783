"""docs/how-to/share-data.md: push the assembled set and the folds, lose everything, pull them back byte for byte."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import copy_code, dvc_environment
from s3_server import S3Server, s3_server

SHARED = ("data/benchmark", "data/folds")


def dvc(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=dvc_environment(folder, **environment),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def succeed(folder: Path, *arguments: str, **environment: str) -> str:
    done = dvc(folder, *arguments, **environment)
    assert done.returncode == 0, f"dvc {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def reproduced(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that is reproduced as far as the leakage check, and under DVC; for copies."""
    folder = tmp_path_factory.mktemp("reproduced") / "project"
    shutil.copytree(tiny_data, folder)
    copy_code(folder)
    succeed(folder, "init", "--quiet", "--no-scm")
    succeed(folder, "commit", "--force", "--quiet", "plan", "phantom", "assemble", "audit", "folds", "leakage")
    return folder


@pytest.fixture
def project(reproduced: Path, tmp_path: Path) -> Path:
    """A copy of `reproduced` of the test's own."""
    return Path(shutil.copytree(reproduced, tmp_path / "project"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of what is shared, by its path."""
    paths = [path for name in SHARED for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def lose_everything(project: Path) -> None:
    for name in (".dvc/cache", *SHARED):
        shutil.rmtree(project / name)


def test_a_folder_as_remote(project, tmp_path):
    before = contents(project)
    assert "data/benchmark/images_64.npy" in before
    assert "data/folds/folds.csv" in before
    succeed(project, "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    succeed(project, "push", *SHARED)
    lose_everything(project)
    succeed(project, "pull", *SHARED)
    assert contents(project) == before
    assert "everything is up to date" in succeed(project, "pull", *SHARED).lower()


def test_a_colleague_goes_on_from_what_was_shared_without_the_sources(project, tmp_path):
    before = contents(project)
    stages = ("plan", "assemble", "audit", "folds", "leakage")
    succeed(project, "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    succeed(project, "push", *stages)
    clone = tmp_path / "clone"  # what git would bring, and nothing else
    clone.mkdir()
    copy_code(clone)
    for name in ("dvc.lock", "params.yaml"):
        shutil.copy(project / name, clone)
    shutil.copytree(project / ".dvc", clone / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    succeed(clone, "pull", *stages)
    assert contents(clone) == before
    assert not (clone / "data/phantom").exists()
    for name in ("data/leakage.json", "data/audit/audit.json"):
        assert (clone / name).read_bytes() == (project / name).read_bytes()
    succeed(clone, "repro", "--single-item", "ledger")  # which a dry run would not run
    output = succeed(clone, "repro", "--allow-missing", "--dry", "train@losses")
    ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    assert ran == ["ledger", "train@losses"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with s3_server(tmp_path_factory.mktemp("weed") / "s3") as running:
        yield running


def bucket(server: S3Server, name: str) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
    )
    client.create_bucket(Bucket=name)


def test_s3_as_remote(project, server):
    bucket(server, "bus-data")
    before = contents(project)
    succeed(project, "remote", "add", "--default", "shared", "s3://bus-data/benchmark")
    succeed(project, "remote", "modify", "shared", "endpointurl", server.url)
    succeed(project, "push", *SHARED, **server.environment)
    lose_everything(project)
    succeed(project, "pull", *SHARED, **server.environment)
    assert contents(project) == before


def test_a_wrong_key_is_refused_by_the_server(project, server):
    bucket(server, "closed")
    succeed(project, "remote", "add", "--default", "shared", "s3://closed/benchmark")
    succeed(project, "remote", "modify", "shared", "endpointurl", server.url)
    done = dvc(project, "push", *SHARED, **{**server.environment, "AWS_SECRET_ACCESS_KEY": "guessed"})
    assert done.returncode != 0
    assert re.search("Forbidden|SignatureDoesNotMatch|Access ?Denied|403", done.stderr), done.stderr
