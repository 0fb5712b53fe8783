"""What the plan says of a promotion before anything is trained is what happens afterwards, for every choice."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from projects import small_profile, tiny_values

from bus_mlops.config import Config
from bus_mlops.errors import BusMlopsError, NothingToJudgeError
from bus_mlops.experiments.plan import StrategyPlan, make_plans
from bus_mlops.experiments.plan_files import input_sizes
from bus_mlops.experiments.search_plan import make_search_plans
from bus_mlops.project import parse_config
from bus_mlops.promotion import contenders
from bus_mlops.promotion.prerequisites import nothing_to_judge

NETWORKS = ("mobilenet", "mobilenet_multitask", "mt_estan", "estan")
STRATEGIES = (
    *(("losses",), ("multitask",), ("approaches",)),
    *(("transfer_learning", "approaches"), ("losses", "multitask", "approaches")),
)


def choices() -> list[dict[str, Any]]:
    """Every choice of networks beside each of some strategies, candidates and baselines."""
    values = tiny_values(small_profile())
    values["strategy_settings"] = {}
    found = []
    subsets = [each for size in range(1, 5) for each in combinations(NETWORKS, size)]
    for networks, strategies in product(subsets, STRATEGIES):
        changed = copy.copy(values)
        changed["networks"] = {name: values["networks"][name] for name in networks}
        changed["strategies"] = list(strategies)
        for candidate, trained, baseline in product(
            (None, networks[0]), (["mine"], ["approaches"]), ("champion", networks[-1])
        ):
            promotion = {**values["promotion"], "candidates": trained, "baseline": baseline}
            promotion |= {"candidate_network": candidate} if candidate else {}
            searched = candidate or "mt_estan"
            strategy = "approaches" if searched == "mt_estan" else "multitask"
            search = {"network": searched, "strategy": strategy, "space": {"dropout": [0.2, 0.3, 0.5]}}
            found.append({**changed, "searches": {"mine": search}, "promotion": promotion})
    return found


class Predictions:
    """Predictions that are as the plans say; a network's name stands for its runs."""

    def __init__(self, plans: dict[str, StrategyPlan]) -> None:
        self.plans = plans

    def of(self, _: Path, strategy: str) -> pd.DataFrame:
        rows = [
            [row.spec.network, row.spec.network, str(number), label, 0.5 if row.spec.task.classifies else float("nan")]
            for number, row in enumerate(self.plans[strategy].rows)
            for label in (0, 1)
        ]
        tested = pd.DataFrame(rows, columns=["network", "fingerprint", "variant", "label", "probability"])
        tested = tested.assign(strategy=strategy, model=tested["network"], fold=1, part="test", seed=0)
        tested = tested.assign(image_id=tested["label"].astype(str))
        return pd.concat([tested, tested.assign(part="validation")], ignore_index=True)


def judged(config: Config, plans: dict[str, StrategyPlan], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether `promote` would find candidates and a baseline among these predictions while there is no champion."""
    monkeypatch.setattr(contenders, "_frame", Predictions(plans).of)
    monkeypatch.setattr(
        contenders,
        "find_trained_model",
        lambda _, network: SimpleNamespace(network=network, runs={0: network}, fingerprints={0: network}, choice=None),
    )
    monkeypatch.setattr(contenders, "_told", lambda _, model, search=None: model)
    finished = {(name, 1): name for name in NETWORKS}
    ledger = SimpleNamespace(finished=lambda: finished)
    inputs: Any = SimpleNamespace(config=config, ledger=ledger, predictions=Path(), model_name="bus")
    try:
        candidates = contenders.candidates_of(inputs, (), config.promotion.candidates)
        contenders.baseline_of(inputs, candidates, None, config.promotion.baseline, None)
    except NothingToJudgeError:
        return False
    return True


def test_the_plan_says_first_what_promote_would_say_last(monkeypatch):
    outcomes: Counter[str] = Counter()
    for values in choices():
        try:
            config = parse_config(values)
            plans = make_plans(config)
        except BusMlopsError:
            outcomes["refused"] += 1  # before anything is trained, too
            continue
        assert input_sizes(plans, {})
        assert [each.network for each in make_search_plans(config)["mine"].networks] == [
            row.spec.network for row in plans["tuned-mine"].rows
        ]
        reason = nothing_to_judge(config, plans)
        told = (tuple(config.networks), config.strategies, config.promotion)
        assert (reason is None) == judged(config, plans, monkeypatch), (reason, told)
        outcomes["judged" if reason is None else "told"] += 1
    assert min(outcomes[name] for name in ("refused", "judged", "told")) > 30


def test_a_candidate_on_other_images_than_its_rivals_is_told():
    values = small_profile()
    values["networks"] = {name: values["networks"][name] for name in ("mobilenet", "mobilenet_multitask", "mt_estan")}
    values["strategies"], values["strategy_settings"] = ["losses", "multitask", "approaches"], {}
    values["promotion"] |= {"candidate_network": "mobilenet", "candidates": ["mine"]}
    values["searches"] = {"mine": {"network": "mobilenet", "strategy": "losses", "space": {"dropout": [0.2, 0.3]}}}
    config = parse_config(values)
    assert set(config.cohorts["all"]) > set(config.cohorts["multitask"])
    reason = nothing_to_judge(config, make_plans(config))
    assert reason is not None
    assert reason.endswith("set searches.mine.strategy to multitask or approaches")
    values["cohorts"]["all"] = values["cohorts"]["multitask"]
    same = parse_config(values)
    assert nothing_to_judge(same, make_plans(same)) is None
