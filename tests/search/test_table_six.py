"""Table 6 and a search over its grid are one mechanism: the same cells, the same choices, the same test predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bus_mlops.evaluation.choice import mean_value
from bus_mlops.evaluation.families import compose, with_choice
from bus_mlops.evaluation.results import read_plans
from bus_mlops.evaluation.searched import Choice, SearchResult, TrialRecord
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.plan_files import write_plans
from bus_mlops.experiments.search_plan import make_search_plans
from bus_mlops.project import parse_config
from bus_mlops.search.chosen import with_choices
from bus_mlops.search.pick import pick
from bus_mlops.spec import RunSpec

SPACES: dict[str, dict[str, Any]] = {
    "WBCE": {"loss.positive_weight": [2, 3, 4, 5]},
    "Focal": {"loss.kind": ["focal"], "loss.gamma": [2, 3], "loss.alpha": [0.25, 0.5, 0.8]},
}


def predicted(spec: RunSpec, fold: int) -> pd.DataFrame:
    """Made-up predictions of a cell, which follow from its fingerprint; images and labels from the fold."""
    fingerprint = spec.fingerprint("data", "folds")
    common, own = np.random.default_rng(fold), np.random.default_rng([int(fingerprint[:8], 16), fold])
    label = common.permutation(np.arange(80) % 2)
    logit = own.normal(0.4, 1.2) * (label - 0.5) + own.normal(size=80) + 1.5 * (label - 0.5)
    ids = [f"busi/{fold}-{i}" for i in range(80)]
    frame = pd.DataFrame({"image_id": ids, "group": ids, "label": label, "probability": 1 / (1 + np.exp(-logit))})
    return frame.assign(fold=fold, seed=spec.seed, fingerprint=fingerprint, part=["test", "validation"] * 40)


def validation(spec: RunSpec, fold: int) -> list[pd.DataFrame]:
    frame = predicted(spec, fold)
    return [frame[frame["part"] == "validation"]]


@pytest.mark.parametrize("standard_errors", [0.0, 1.0])
@pytest.mark.parametrize("family", SPACES)
def test_a_grid_search_is_the_row_of_table_six(demo_values, tmp_path, family: str, standard_errors: float) -> None:
    demo_values["strategies"] = ["losses", "approaches"]
    demo_values["strategy_settings"]["losses"] = {
        "networks": ["mobilenet"], "positive_weights": [2, 3, 4, 5], "gammas": [2, 3], "alphas": [0.25, 0.5, 0.8],
        "standard_errors": standard_errors,
    }  # fmt: skip
    demo_values["searches"] = {
        "grid": {
            "network": "mobilenet", "strategy": "losses", "space": SPACES[family], "sampler": "grid", "trials": None,
            "objective": "f1", "standard_errors": standard_errors,
        },
        **{name: each for name, each in demo_values["searches"].items() if name == "mt_estan_loss"},
    }  # fmt: skip
    config = parse_config(demo_values)
    losses, tuned = (make_plans(config)[name] for name in ("losses", "tuned-grid"))
    search = make_search_plans(config)["grid"]

    write_plans(config, tmp_path)
    frames = [
        predicted(spec, fold).assign(strategy="losses", model=row.model, variant=row.variant)
        for row in losses.rows
        for fold in losses.folds
        for spec in losses.specs(row, fold)
    ]
    frame = pd.concat(frames, ignore_index=True)
    rows = with_choice(frame, read_plans(tmp_path)["losses"])
    (composite,) = [row for row in rows if row.family == family and row.chosen]
    ours = compose(frame, rows)
    ours = ours[(ours["variant"] == composite.variant) & (ours["part"] == "test")]

    (start,) = search.networks
    space = search.space(start)
    grid = [start.first, *(cell for cell in space.grid() if dict(cell) != dict(start.first))]
    assert len(grid) == len([row for row in losses.rows if row.family == family])
    choices = []
    for fold in search.folds:
        steps = {number: validation(space.spec(cell), fold) for number, cell in enumerate(grid)}
        trials = [
            TrialRecord(
                network="mobilenet", fold=fold, number=number, parameters=dict(cell), state="complete",
                values=(mean_value(steps[number], "f1"),),
            )
            for number, cell in enumerate(grid)
        ]  # fmt: skip
        picked = pick(trials, steps, search.settings)
        choices.append(
            Choice(
                network="mobilenet", fold=fold, trial=picked.number, best=picked.best,
                parameters=trials[picked.number].parameters, value=trials[picked.number].values[0],
                first_value=picked.first_value, difference=picked.difference, standard_error=picked.standard_error,
                reason=picked.reason, images="", image_count=40,
            )
        )  # fmt: skip
    plan = with_choices(tuned, search, SearchResult(search="grid", choices=tuple(choices)))
    (row,) = plan.rows
    theirs = pd.concat([predicted(plan.specs(row, fold)[0], fold) for fold in plan.folds])
    theirs = theirs[theirs["part"] == "test"]
    assert ours["fingerprint"].tolist() == theirs["fingerprint"].tolist()
    assert ours["probability"].tolist() == theirs["probability"].tolist()
    if standard_errors == 0:
        assert len(set(composite.chosen_in.values())) > 1
