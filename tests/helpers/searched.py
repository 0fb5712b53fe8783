"""Results of searches made by hand: trials with values that follow a rule, and the choice made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from bus_mlops.config.searches import Search
from bus_mlops.evaluation.searched import Choice, SearchResult, TrialRecord
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.search_runs import SearchRuns


def focal_or_weight(number: int) -> dict[str, Any]:
    """Parameters of a trial: every third a focal pair, the others a weight."""
    if number % 3 == 2:
        return {
            "loss.classification_weight": 1.0 + number / 4,
            "loss.kind": "focal",
            "loss.gamma": 1.0 + number / 8,
            "loss.alpha": 0.25,
        }
    return {"loss.classification_weight": 3.0 - number / 8, "loss.kind": "cross_entropy", "loss.positive_weight": 3.0}


def make_result(
    folds: Sequence[int] = (1, 2, 3),
    trials: int = 8,
    networks: Sequence[str] = ("mt_estan",),
    parameters: Callable[[int], dict[str, Any]] = focal_or_weight,
    state: Callable[[int], str] = lambda number: "complete",
    objective: tuple[str, ...] = ("roc_auc",),
    **settings: Any,
) -> SearchResult:
    """A search as it would be left; of every fold the best trial is chosen, if any is complete."""
    generator = np.random.default_rng(0)
    records, choices = [], []
    for network in networks:
        for fold in folds:
            own = []
            for number in range(trials):
                values = tuple(0.8 + 0.01 * fold + 0.05 * generator.random() for _ in objective)
                failed = state(number) == "failed"
                own.append(
                    TrialRecord.model_validate(
                        {
                            "network": network,
                            "fold": fold,
                            "number": number,
                            "parameters": parameters(number),
                            "state": state(number),
                            "values": () if failed else values,
                            "steps": () if failed else (values[0] - 0.01, values[0] + 0.01),
                            "constraints": {} if failed else dict.fromkeys(settings.get("constraint", ()), values[-1]),
                            "epochs": 0 if number == 1 else 12,
                            "runs": () if failed else (f"{network}{fold}{number:03d}",),
                            "reason": "the loss diverged" if failed else "",
                        }
                    )
                )
            records += own
            complete = [trial for trial in own if trial.state == "complete"]
            if complete:
                best = max(complete, key=lambda trial: trial.values[0])
                choices.append(
                    Choice(
                        network=network,
                        fold=fold,
                        trial=best.number,
                        best=best.number,
                        parameters=best.parameters,
                        value=best.values[0],
                        first_value=complete[0].values[0],
                        difference=best.values[0] - complete[0].values[0],
                        standard_error=0.004,
                        reason="better than the first trial by more than 1 standard error",
                        images="0" * 64,
                        image_count=208,
                    )
                )
    return SearchResult.model_validate(
        {
            "search": "mt_estan_loss",
            "engine": "optuna",
            "sampler": "tpe",
            "objective": objective,
            "choices": [each.model_dump() for each in choices],
            "trials": [each.model_dump() for each in records],
            **settings,
        }
    )


def study(result: SearchResult, network: str, fold: int) -> Any:
    """What is asked of a study by who watches it."""
    space = {"loss.classification_weight": {"low": 0.5, "high": 5}, "loss.kind": ["focal", "cross_entropy"]}
    settings = Search.model_validate(
        {"network": network, "strategy": "approaches", "space": space, "objective": result.objective}
    )
    return SimpleNamespace(
        name=f"{result.search}-{network}-fold{fold}-0a1b2c",
        fold=fold,
        wanted=5,
        plan=SimpleNamespace(name=result.search, settings=settings),
        start=SimpleNamespace(network=network, title=network.upper()),
    )


def tell(ledger: Ledger, result: SearchResult, trials: int | None = None, end: bool = True) -> None:
    """A driver's life: it tells of so many trials of each fold and of the choice, or is killed before."""
    runs = SearchRuns(ledger)
    for network, fold in dict.fromkeys((trial.network, trial.fold) for trial in result.trials):
        runs.started(study(result, network, fold))
        own = [trial for trial in result.trials if (trial.network, trial.fold) == (network, fold)]
        for trial in own[:trials]:
            runs.told(trial)
    if end:
        runs.chosen(result)
