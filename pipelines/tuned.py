"""DVC stage `tuned@<name>`: train the networks of a search on every fold as it was chosen for that fold."""

import sys

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.searched import read_result
from bus_mlops.experiments.collect import collect, collect_nothing
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan import tuned_name
from bus_mlops.experiments.plan_files import read_plan, read_search_plan
from bus_mlops.experiments.runner import run_plan
from bus_mlops.paths import PLAN, PREDICTIONS, SEARCH
from bus_mlops.search.chosen import with_choices
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.search_runs import SearchRuns


def main(config: Config) -> None:
    name = sys.argv[1]
    plan = read_plan(PLAN, tuned_name(name))
    if not plan.rows:
        print("[tuned] skipped: there was no search")
        collect_nothing(plan.strategy, PREDICTIONS)
        return
    result = read_result(SEARCH / name / "best.json")
    if result is None:
        raise EvaluationError(f"{SEARCH / name / 'best.json'} is missing: run `dvc repro search@{name}`.")
    plan = with_choices(plan, read_search_plan(PLAN, name), result)
    with open_runner(config) as runner:
        runs = run_plan(runner, plan)
        collect(runner, plan, runs, PREDICTIONS)
        for row in plan.rows:
            own = {fold: plan.specs(row, fold)[0].fingerprint(*runner.digests(row.spec)) for fold in plan.folds}
            by_fold = {fold: runs[LedgerKey(fingerprint, fold)] for fold, fingerprint in own.items()}
            SearchRuns(runner.ledger).tuned(name, row.spec.network, by_fold)


if __name__ == "__main__":
    run_stage(main)
