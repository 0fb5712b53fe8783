"""DVC stage `train@<strategy>`: train the strategy's missing cells and collect their predictions."""

import sys

from bus_mlops.config import Config
from bus_mlops.dataset.folds.sealed import sealed_counts, sealed_words
from bus_mlops.entry import run_stage
from bus_mlops.experiments.collect import collect, collect_nothing
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan_files import read_plan
from bus_mlops.experiments.runner import run_plan
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
        collect(runner, plan, run_plan(runner, plan), PREDICTIONS)


if __name__ == "__main__":
    run_stage(main)
