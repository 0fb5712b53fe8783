"""Cells of other strategies, trained beside those of a stage, and found by their own stages."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from trainings import TRAIN, change, change_plan, statuses, train

from bus_mlops.experiments import runner
from bus_mlops.experiments.cell import CellEvent
from bus_mlops.experiments.failures import CellsFailedError
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.search_plan import make_search_plans
from bus_mlops.experiments.together import known_beforehand
from bus_mlops.project import parse_config
from bus_mlops.spec import LedgerKey

AUGMENTATION = [*TRAIN[:-1], "augmentation"]


@pytest.fixture
def sharing_project(tiny_project, small_network):
    """Two strategies of one network on one fold each: two rows of `losses`, and one more of `augmentation`."""
    path = tiny_project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["strategies"], values["searches"] = ["losses", "augmentation"], {}
    values["promotion"]["candidates"] = ["approaches"]
    values["strategy_settings"]["augmentation"] = {"networks": ["small"], "singles": {}}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    change(tiny_project, "engine", together=True)
    for strategy in ("losses", "augmentation"):
        change_plan(tiny_project, strategy, folds=[1])
    return tiny_project


def row(project, strategy: str, number: int) -> dict[str, Any]:
    return json.loads((project / f"results/plan/{strategy}.json").read_text())["rows"][number]


def test_a_stage_trains_what_others_miss_and_they_find_it(sharing_project):
    first = train(sharing_project)
    assert first.returncode == 0, first.stderr
    assert "with 2 runs of other strategies (engine.together)" in first.stdout
    assert "3 runs, 0 of them recorded already, 3 to train" in first.stdout  # both have the row with augmentation
    frame = pd.read_parquet(sharing_project / "results/predictions/losses.parquet")
    assert set(frame["variant"]) == {row(sharing_project, "losses", each)["variant"] for each in (0, 1)}
    second = train(sharing_project, AUGMENTATION)
    assert "2 runs, 2 of them recorded already, 0 to train" in second.stdout
    assert "other strategies" not in second.stdout  # it starts no worker
    assert statuses(sharing_project) == ["FINISHED"] * 3


@pytest.mark.parametrize("failing", ["own", "shared"])
def test_what_fails_of_others_is_left_to_their_own_stage(failing, monkeypatch, caplog):
    cells: dict[str, Any] = {name: SimpleNamespace(key=LedgerKey(name, 1)) for name in ("own", "shared")}
    monkeypatch.setattr(runner, "plan_cells", lambda *_: [cells["own"]])

    def run(asked, name):
        assert (asked, name) == (list(cells.values()), "losses")
        key = cells[failing].key
        finished = {cell.key: f"run of {cell.key.fingerprint}" for cell in asked if cell.key != key}
        raise CellsFailedError("1 of 2 runs failed", {key: CellEvent("failed", *key)}, finished)

    def run_plan():
        stub: Any = SimpleNamespace(run=run, strategy="losses")  # both the runner and the plan
        return runner.run_plan(stub, stub, [cells["shared"]])

    if failing == "own":
        with pytest.raises(CellsFailedError, match="1 of 2 runs failed"):
            run_plan()
        return
    assert run_plan() == {cells["own"].key: "run of own"}
    assert "1 runs of other strategies failed here; their own stages try them again" in caplog.text


def test_what_a_search_will_choose_is_known_only_where_there_is_no_choice(demo_values):
    grid = {"network": ["mt_estan"], "strategy": "approaches", "sampler": "grid", "trials": None}
    demo_values["searches"] = {
        "one": {**grid, "space": {"epochs": [2]}, "first": {"epochs": 2}},
        "two": {**grid, "space": {"loss.mask_weight": [1, 2]}},
    }
    demo_values["promotion"].update(candidates=["approaches"])
    config = parse_config(demo_values)
    plans = make_plans(config)
    known = {plan.strategy: plan for plan in known_beforehand(plans, make_search_plans(config))}
    assert list(known) == [*config.strategies, "tuned-one"]
    assert [each.spec.training.epochs for each in known["tuned-one"].rows] == [2]
    assert known["tuned-one"].seeds == plans["approaches"].seeds
    assert known["approaches"] == plans["approaches"]
