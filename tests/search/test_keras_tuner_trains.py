"""keras-tuner's Hyperband trains a network of a few layers: its rungs are cells that go on from one another."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from projects import ROOT, run_stage_script

SEARCH = {
    "network": "small",
    "strategy": "losses",
    "engine": "keras-tuner",
    "space": {
        "dropout": [0.0, 0.3, 0.6],
        "optimizer.learning_rate": {"low": 1.0e-4, "high": 1.0e-1, "log": True},
    },
    "trials": 4,
    "epochs": 3,
    "objective": "roc_auc",
}
SCRIPT = """
from pathlib import Path

from bus_mlops.entry import run_stage
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.search_plan import SearchPlan
from bus_mlops.search.study import run_search


def main(config):
    plan = SearchPlan.model_validate_json(Path("results/plan/search-head.json").read_text())
    with open_runner(config) as runner:
        result = run_search(runner, plan, Path("studies"))
    Path("best.json").write_text(result.model_dump_json())


if __name__ == "__main__":
    run_stage(main)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_hyperband_trains_tried_cells_and_finds_them_again(tiny_project):
    from bus_mlops.config import TrackingConfig
    from bus_mlops.tracking.ledger import Ledger

    path = tiny_project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["promotion"]["candidates"] = ["approaches"]
    path.write_text(yaml.safe_dump({**values, "searches": {"head": SEARCH}}, sort_keys=False))
    done = run_stage_script("plan", tiny_project)
    assert done.returncode == 0, done.stderr
    (tiny_project / "run_search.py").write_text(SCRIPT)
    results = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "run_search.py"],
            cwd=tiny_project,
            capture_output=True,
            text=True,
            timeout=600,
            env={"PATH": "", "HOME": str(tiny_project), "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        results.append(json.loads((tiny_project / "best.json").read_text()))
    assert results[0] == results[1]
    trials = results[0]["trials"]
    assert {trial["fold"] for trial in trials} == {1, 2}
    assert [trial["number"] for trial in trials if trial["fold"] == 1] == [0, 1, 2, 3]
    assert {trial["state"] for trial in trials} == {"complete", "pruned"}
    ledger = Ledger(TrackingConfig(uri=f"sqlite:///{tiny_project}/mlflow.db", artifacts=f"{tiny_project}/mlartifacts"))
    runs = ledger.runs("tags.kind = 'tried'")
    assert sum(run.data.metrics["epochs_trained"] for run in runs) == sum(trial["epochs"] for trial in trials)
    for trial in trials:
        for run_id in trial["runs"]:
            predictions = ledger.predictions(run_id)
            assert set(predictions["part"]) == {"validation"}
    assert "oracle.json" not in [each.name for each in tiny_project.rglob("*.json")]
