"""How a report was made: profile, seed, commit, versions of what computed the numbers."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from bus_mlops import git
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
    trained = ", ".join(map(str, config.folds.run)) if config.folds.run else "all"
    facts = {
        "profile": config.profile,
        "seed": str(config.seed),
        "folds": f"{config.folds.kind}: {trained} of {config.fold_count}",
    }
    commit = git.commit(short=True)
    if commit:
        facts["git commit"] = commit + (" with uncommitted changes" if git.is_clean() is False else "")
    facts["Python"] = platform.python_version()
    facts["machine"] = f"{platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts
