"""What git says of the working folder, as evidence beside results; no git and no repository are answers too."""

from __future__ import annotations

import subprocess


def commit(short: bool = False) -> str:
    """The commit that is checked out, 40 hexadecimal digits (or at least 12); "" where there is none."""
    return _git("rev-parse", *(["--short=12"] if short else []), "HEAD") or ""


def is_clean() -> bool | None:
    """Whether the tracked files are as committed; None where git cannot tell."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return None if changed is None else not changed


def git_tags() -> dict[str, str]:
    """Commit and cleanness as tags of an MLflow run."""
    found = commit()
    clean = is_clean() if found else None
    return {
        "mlflow.source.git.commit": found or "none",
        "git_clean": "unknown" if clean is None else "yes" if clean else "no",
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
