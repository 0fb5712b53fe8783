"""`bus-mlops promote` in this folder, killed as by a loss of power: `python killed_promotion.py METHOD`.

The process kills itself right before the first call of that method of MLflow's client.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from mlflow import MlflowClient

from bus_mlops.cli.app import app


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    setattr(MlflowClient, sys.argv.pop(1), _die)
    app(["promote"])
