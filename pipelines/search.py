"""DVC stage `search@<name>`: try what the search may change of its networks, judged on validation parts alone."""

import sys

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan_files import read_search_plan
from bus_mlops.files import write_json
from bus_mlops.paths import PLAN, SEARCH, STUDIES, home
from bus_mlops.search.study import run_search
from bus_mlops.tracking.search_runs import SearchRuns


def main(config: Config) -> None:
    plan = read_search_plan(PLAN, sys.argv[1])
    if plan.networks:
        with open_runner(config) as runner:
            result = run_search(runner, plan, home() / STUDIES, [SearchRuns(runner.ledger)])
    else:
        print(f"[search] skipped: {plan.missing}")
        result = SearchResult(search=plan.name, note=plan.missing)
    write_json(SEARCH / plan.name / "best.json", result.model_dump(mode="json"))


if __name__ == "__main__":
    run_stage(main)
