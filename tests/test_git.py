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


def unknown(reason: str, caplog, commit: str = "none") -> None:
    """Git cannot tell, says why once, and never clean."""
    git._warn.cache_clear()
    caplog.clear()
    for _ in range(2):
        tags = git.git_tags()
        assert (tags["mlflow.source.git.commit"], tags["git_clean"]) == (commit, "unknown")
        assert reason in tags["git_reason"]
    assert [reason in each.getMessage() for each in caplog.records] == [True]


def test_without_a_repository_or_a_commit(folder, caplog):
    unknown("in no git repository, as after unpacking a zip file", caplog)
    assert (git.commit(), git.is_clean()) == ("", None)
    run("init", "--quiet")
    unknown("has no commit yet", caplog)


def test_without_git(folder, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(folder))
    unknown("git is not installed", caplog)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'fatal: detected dubious ownership in repository at /x' >&2; exit 128", "detected dubious ownership"),
        ("exit 1", "git rev-parse failed and says nothing"),
        ("exec sleep 60", "did not answer within"),
        ("if [ $1 = rev-parse ]; then echo abc; else echo 'fatal: index file corrupt' >&2; exit 128; fi", "index file"),
    ],
)
def test_a_git_that_does_not_answer(script, reason, folder, monkeypatch, caplog):
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(git, "SECONDS", 0.3)
    unknown(reason, caplog, commit="abc" if "rev-parse" in script else "none")


def test_a_repository_of_something_else_around_the_project_is_not_taken_for_it(folder, monkeypatch, caplog):
    run("init", "--quiet")
    run("commit", "--quiet", "--allow-empty", "-m", "one")
    (folder / "project").mkdir()
    monkeypatch.chdir(folder / "project")
    (folder / "project" / "params.yaml").write_text("seed: 1")
    unknown("params.yaml is not tracked", caplog, commit=run("rev-parse", "HEAD"))
    run("add", "params.yaml")
    run("commit", "--quiet", "-m", "two")
    assert git.git_tags()["git_clean"] == "yes"
    monkeypatch.setenv("GIT_DIR", str(folder / "elsewhere"))
    assert git.git_tags()["git_clean"] == "yes"
