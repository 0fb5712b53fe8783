"""What git says: in a repository, with changes, and where there is none."""

from __future__ import annotations

import subprocess

import pytest

from bus_mlops import git


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder that lies in no repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")
    return tmp_path


def run(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_commit_and_changes_of_tracked_files(folder):
    run("init", "--quiet")
    (folder / "tracked.txt").write_text("one")
    run("add", "tracked.txt")
    run("commit", "--quiet", "-m", "one")
    head = run("rev-parse", "HEAD")
    (folder / "untracked.txt").write_text("is no change")
    assert git.commit() == head
    assert git.commit(short=True) == head[:12]
    assert git.is_clean() is True
    assert git.git_tags() == {"mlflow.source.git.commit": head, "git_clean": "yes"}
    (folder / "tracked.txt").write_text("two")
    assert git.is_clean() is False
    assert git.git_tags()["git_clean"] == "no"


def test_without_a_repository_or_a_commit(folder):
    nothing = {"mlflow.source.git.commit": "none", "git_clean": "unknown"}
    assert (git.commit(), git.is_clean(), git.git_tags()) == ("", None, nothing)
    run("init", "--quiet")
    assert (git.commit(), git.git_tags()) == ("", nothing)


def test_without_git(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    assert (git.commit(), git.is_clean()) == ("", None)
