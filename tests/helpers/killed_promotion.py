"""`bus-mlops promote` in this folder, killed as by a loss of power: `python killed_promotion.py METHOD`.

The process kills itself right before the first call of that method of MLflow's client, or of its folder of artifacts.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from bus_mlops.cli.app import app


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    method = sys.argv.pop(1)
    owners: list[Any] = [MlflowClient, LocalArtifactRepository]
    for owner in owners:
        if hasattr(owner, method):
            setattr(owner, method, _die)
    app(["promote"])
