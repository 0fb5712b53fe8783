"""Which rows of the plans are trained on image-level folds too: those that `leak_premium` of params.yaml names."""

from __future__ import annotations

from collections.abc import Mapping

from bus_mlops.config import LeakPremiumConfig
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.plan import StrategyPlan


def premium_plans(asked: LeakPremiumConfig | None, plans: Mapping[str, StrategyPlan]) -> list[StrategyPlan]:
    """The plans of the strategies that `leak_premium.rows` names, with these rows only; none where it is off.

    Args:
        asked: The section of params.yaml.
        plans: Of each strategy; those of searches may be among them.

    Raises:
        ConfigError: A row is not planned, or is chosen by a search.
    """
    chosen: dict[str, list[int]] = {}
    for name in asked.rows if asked else ():
        strategy, network, *variant = name.split("/", 2)
        plan = plans.get(strategy)
        if plan is not None and any(row.choice for row in plan.rows):
            raise ConfigError(
                f"leak_premium.rows names {name}, whose parameters a search chooses on grouped folds: on image-level "
                "folds it would choose others. Name a row of a strategy."
            )
        found = [
            number
            for number, row in enumerate(plan.rows if plan else ())
            if row.spec.network == network and variant in ([], [row.variant])
        ]
        if not found:
            raise ConfigError(f"leak_premium.rows names {name}, which is not planned; there are {_there(plans)}.")
        chosen.setdefault(strategy, []).extend(found)
    return [
        plan.model_copy(update={"rows": tuple(row for n, row in enumerate(plan.rows) if n in chosen[strategy])})
        for strategy, plan in plans.items()
        if strategy in chosen
    ]


def _there(plans: Mapping[str, StrategyPlan]) -> str:
    names = dict.fromkeys(
        f"{strategy}/{row.spec.network}"
        for strategy, plan in plans.items()
        for row in plan.rows
        if not (row.choice or row.members)
    )
    return ", ".join(names)
