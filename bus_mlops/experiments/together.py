"""What all strategies train, in the stage of the first one: where trainings are short, to start and trace costs more.

With `engine.together` the cells of others are trained beside the stage's own; their own stages find them in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.plan import StrategyPlan, tuned_name
from bus_mlops.experiments.runner import Runner, plan_cells
from bus_mlops.experiments.search_plan import SearchPlan


def shared_cells(runner: Runner, plan: StrategyPlan, others: Iterable[StrategyPlan]) -> list[Cell]:
    """The missing cells of other plans; none where `plan` has nothing to train, as workers are not started then."""
    if not runner.missing(plan_cells(runner, plan)):
        return []
    return runner.missing([cell for other in others for cell in plan_cells(runner, other)])


def known_beforehand(plans: Mapping[str, StrategyPlan], searches: Mapping[str, SearchPlan]) -> Iterator[StrategyPlan]:
    """The plans whose specs are known before any search, which those of searches are where nothing is to choose."""
    chosen_later = {tuned_name(name) for name in searches}
    yield from (plan for name, plan in plans.items() if name not in chosen_later)
    for name, search in searches.items():
        plan = plans[tuned_name(name)]
        if search.settings.is_variant:
            specs = {start.network: search.space(start).spec(start.first) for start in search.networks}
            rows = (row.model_copy(update={"spec": specs[row.spec.network]}) for row in plan.rows)
            yield plan.model_copy(update={"rows": tuple(rows)})
