"""From what a search chose to what is trained with it: the plan `tuned-NAME` with the parameters of each fold."""

from __future__ import annotations

from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.search_plan import SearchPlan


def with_choices(plan: StrategyPlan, search: SearchPlan, result: SearchResult) -> StrategyPlan:
    """The plan of `tuned-NAME` with the spec of each row on each fold.

    Args:
        plan: As `plan` wrote it, with the starts' specs.
        search: The plan of the search.
        result: What the search chose, for each network and fold.

    Raises:
        ConfigError: A parameter is not of the search's space.
    """
    starts = {start.network: start for start in search.networks}
    rows = []
    for row in plan.rows:
        space = search.space(starts[row.spec.network])
        chosen = {fold: result.choice(row.spec.network, fold).parameters for fold in plan.folds}
        specs = {fold: space.spec(parameters) for fold, parameters in chosen.items()}
        rows.append(row.model_copy(update={"per_fold": specs, "parameters": chosen}))
    return plan.model_copy(update={"rows": tuple(rows)})
