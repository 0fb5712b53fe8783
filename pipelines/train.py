"""DVC stage `train@<strategy>`: train the strategy's missing cells and collect their predictions.

With `engine.together` it trains others' cells too, into the ledger alone: what the stage writes depends on its
own plan file only, whatever it reads of the others.
"""

import sys

from bus_mlops.config import Config
from bus_mlops.dataset.folds.sealed import sealed_counts, sealed_words
from bus_mlops.entry import run_stage
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.collect import collect, collect_nothing
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan import StrategyPlan, tuned_name
from bus_mlops.experiments.plan_files import read_plan, read_search_plan
from bus_mlops.experiments.runner import Runner, run_plan
from bus_mlops.experiments.together import known_beforehand, shared_cells
from bus_mlops.paths import PLAN, PREDICTIONS


def main(config: Config) -> None:
    plan = read_plan(PLAN, sys.argv[1])
    if not plan.rows:
        print("[train] skipped: all of its rows are left out (results/plan/left_out.csv)")
        collect_nothing(plan.strategy, PREDICTIONS)
        return
    with open_runner(config) as runner:
        for line in sealed_words(sealed_counts(runner.folds.frame)):
            print(f"[train] {line}")
        shared = _shared(config, runner, plan) if config.engine.together else []
        collect(runner, plan, run_plan(runner, plan, shared), PREDICTIONS)


def _shared(config: Config, runner: Runner, plan: StrategyPlan) -> list[Cell]:
    names = (*config.strategies, *map(tuned_name, config.searches))
    others = {name: read_plan(PLAN, name) for name in names if name != plan.strategy}
    searches = {name: read_search_plan(PLAN, name) for name in config.searches}
    shared = shared_cells(runner, plan, known_beforehand(others, searches))
    if shared:
        print(f"[train] with {len(shared)} runs of other strategies (engine.together)")
    return shared


if __name__ == "__main__":
    run_stage(main)
