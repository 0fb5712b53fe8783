"""Trainings of a tiny project through its stage script, and the runs that they leave in the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from projects import ROOT, run_stage_here

from bus_mlops.config import TrackingConfig
from bus_mlops.tracking.ledger import Ledger

TRAIN = [sys.executable, str(ROOT / "pipelines" / "train.py"), "losses"]


def change(project: Path, section: str, **values: Any) -> None:
    """Change a section of params.yaml and plan again."""
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    done = run_stage_here("plan", project)
    assert done.returncode == 0, done.stderr


def change_plan(project: Path, strategy: str = "losses", **values: Any) -> None:
    """Change the plan of a strategy itself, e.g. to fewer folds or rows."""
    path = project / f"results/plan/{strategy}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def train_here(project: Path) -> subprocess.CompletedProcess[str]:
    """Train the losses with this process as the driver; the workers are processes all the same."""
    return run_stage_here("train", project, "losses")


def train(project: Path, command: list[str] = TRAIN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)


def ledger_of(project: Path) -> Ledger:
    # An absolute URI: MLflow keeps a store per URI, and a relative one would stay with the first test's project.
    return Ledger(TrackingConfig(uri=f"sqlite:///{project}/mlflow.db", artifacts=str(project / "mlartifacts")))


def fold_runs(project: Path, kind: str = "fold") -> list[Any]:
    return ledger_of(project).runs(f"tags.kind = '{kind}'")


def statuses(project: Path) -> list[str]:
    return sorted(run.info.status for run in fold_runs(project))


def finished_keys(project: Path, kind: str = "fold") -> list[tuple[str, str]]:
    """(fingerprint, fold) of each FINISHED run: a cell that was trained twice is there twice."""
    return [_key(run.data.tags) for run in fold_runs(project, kind) if run.info.status == "FINISHED"]


def wait_for_the_middle(project: Path, finished: int = 1, kind: str = "fold") -> Any:
    """Wait until so many cells are finished and another one is in the first half of its epochs; returns its run.

    An epoch of the small network takes 12 ms: the half of 300 leaves time to see it, also on a busy machine.
    """
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        # A look at the store takes as long as an epoch: not before there is one.
        if any((project / "checkpoints").glob("[!.]*.npz")):
            runs = fold_runs(project, kind)
            going = [r for r in runs if r.info.status == "RUNNING" and 1 <= epochs_done(project, r) <= _half(r)]
            if going and sum(r.info.status == "FINISHED" for r in runs) >= finished:
                return going[0]
        time.sleep(0.1)
    raise AssertionError("no cell was ever in the middle of its training")


def epochs_done(project: Path, run: Any) -> int:
    """How many epochs of a run's cell are in its checkpoint."""
    fingerprint, fold = _key(run.data.tags)
    try:
        with np.load(project / "checkpoints" / f"{fingerprint}-{fold}.npz") as arrays:
            return len(json.loads(str(arrays["about"]))["history"])
    except FileNotFoundError:
        return 0


def _half(run: Any) -> float:
    """0 where the run has only begun, before its parameters are written."""
    return int(run.data.params.get("training.epochs", 0)) / 2


def _key(tags: Mapping[str, str]) -> tuple[str, str]:
    return tags["fingerprint"], tags["fold"]
