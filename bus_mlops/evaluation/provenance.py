"""How a report was made: profile, seed, commit, versions of what computed the numbers."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from bus_mlops.config import Config

PACKAGES = (
    "bus-mlops",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "numpy",
    "scikit-learn",
    "mlflow",
    "dvc",
    "optuna",
)


def provenance(config: Config) -> dict[str, str]:
    """Names and values to print; a package that is not installed and a missing git are left out."""
    facts = {
        "profile": config.profile,
        "seed": str(config.seed),
        "folds": ", ".join(map(str, config.folds.selected)) + f" of {config.folds.count}",
    }
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit:
        changed = _git("status", "--porcelain", "--untracked-files=no")
        facts["git commit"] = commit + (" with uncommitted changes" if changed else "")
    facts["Python"] = platform.python_version()
    facts["machine"] = f"{platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
