"""What other strategies need of the programs that a stage compiles: to trace one costs more than a short training.

With `engine.share_programs` such cells are trained beside the stage's own; their own stages find them in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.plan import StrategyPlan, tuned_name
from bus_mlops.experiments.runner import Runner, plan_cells
from bus_mlops.experiments.search_plan import SearchPlan


def shared_cells(runner: Runner, plan: StrategyPlan, others: Iterable[StrategyPlan]) -> list[Cell]:
    """The cells of other plans with a program that the missing cells of `plan` compile, if any are missing."""
    programs = {cell.spec.program_key() for cell in runner.missing(plan_cells(runner, plan))}
    cells: list[Cell] = []
    for other in others:
        rows = tuple(row for row in other.rows if all(part.spec.program_key() in programs for part in row.parts))
        cells += plan_cells(runner, other.model_copy(update={"rows": rows}))
    return cells


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
