"""DVC stage `tuned`: train the candidate network on every fold with the loss that the search found."""

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.experiments.collect import collect, collect_nothing
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan import read_plan
from bus_mlops.experiments.runner import run_plan
from bus_mlops.files import read_json
from bus_mlops.paths import PLAN, PREDICTIONS, SEARCH
from bus_mlops.search.loss_weights import with_loss


def main(config: Config) -> None:
    best = read_json(SEARCH / "best.json")["best"]
    if best is None:
        print("[tuned] skipped: there was no search")
        collect_nothing("tuned", PREDICTIONS)
        return
    plan = read_plan(PLAN, "tuned")
    row = plan.rows[0]
    row = row.model_copy(update={"spec": with_loss(row.spec, best)})
    plan = plan.model_copy(update={"rows": (row,)})
    with open_runner(config) as runner:
        collect(runner, plan, run_plan(runner, plan), PREDICTIONS)


if __name__ == "__main__":
    run_stage(main)
