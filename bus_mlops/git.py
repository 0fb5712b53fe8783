"""What git says of the working folder, as evidence beside results; no git and no repository are answers too.

Where git cannot answer, its own reason stands in the answer: what is not known is never taken for clean.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger(__name__)
SECONDS: float = 20
PARAMS = Path("params.yaml")
# Of a hook that runs us: they would lead to the repository that it belongs to.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")


@dataclass(frozen=True)
class State:
    """What git says.

    Attributes:
        commit: What is checked out, 40 hexadecimal digits; "" where that is not known.
        clean: Whether the tracked files are as committed; None where that is not known.
        reason: Why something is not known, in git's own words where it has any; "" if all is.
    """

    commit: str = ""
    clean: bool | None = None
    reason: str = ""


def commit(short: bool = False) -> str:
    """The commit that is checked out, 40 hexadecimal digits (or the first 12); "" where there is none."""
    found = state().commit
    return found[:12] if short else found


def is_clean() -> bool | None:
    """Whether the tracked files are as committed; None where git cannot tell."""
    return state().clean


def state() -> State:
    """Ask git about the working folder."""
    found = ""
    try:
        found = _git("rev-parse", "--verify", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
        if PARAMS.exists():
            # In a repository of something else around the project, nothing of ours is ever changed.
            _git("ls-files", "--error-unmatch", "--", str(PARAMS))
    except _SilentError as error:
        return State(found, None, str(error))
    return State(found, not changed)


def git_tags() -> dict[str, str]:
    """Commit and cleanness as tags of an MLflow run, with a warning and the reason where git cannot tell."""
    now = state()
    tags = {
        "mlflow.source.git.commit": now.commit or "none",
        "git_clean": "unknown" if now.clean is None else "yes" if now.clean else "no",
    }
    if now.reason:
        _warn(now.reason, str(Path.cwd()))
        tags["git_reason"] = now.reason
    return tags


class _SilentError(Exception):
    """Git has no answer."""


def _git(*arguments: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env={**variables, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except subprocess.TimeoutExpired:
        raise _SilentError(f"git {arguments[0]} did not answer within {SECONDS} seconds") from None
    except FileNotFoundError:
        raise _SilentError("git is not installed, or not on the PATH") from None
    except OSError as error:
        raise _SilentError(f"git cannot be run: {error}") from None
    if done.returncode:
        raise _SilentError(_reason(arguments[0], " ".join(done.stderr.split())))
    return done.stdout.strip()


def _reason(asked: str, said: str) -> str:
    if "not a git repository" in said:
        return (
            "this folder is in no git repository, as after unpacking a zip file of the source: work in a clone, or "
            "`git init && git add . && git commit` here"
        )
    if "Needed a single revision" in said:
        return "the repository has no commit yet: `git add . && git commit`"
    if asked == "ls-files":
        return f"{PARAMS} is not tracked, so the commit says nothing about it: `git add {PARAMS} && git commit`"
    return said[:300] or f"git {asked} failed and says nothing"


@functools.cache
def _warn(reason: str, folder: str) -> None:
    """Once a process for each folder and reason."""
    LOG.warning(
        "git does not say which code this is (%s): %s. Runs of unknown code do not pass the gate as long as "
        "promotion.require_clean_git is true",
        folder,
        reason,
    )
