"""DVC stage `search`: Optuna over the candidate network's loss, judged on validation parts."""

from bus_mlops.config import Config, SearchConfig
from bus_mlops.entry import run_stage
from bus_mlops.experiments.driver import open_runner
from bus_mlops.files import read_json, write_json
from bus_mlops.paths import PLAN, SEARCH, STUDIES
from bus_mlops.search.loss_weights import search_loss_weights
from bus_mlops.spec import RunSpec


def main(config: Config) -> None:
    plan = read_json(PLAN / "search.json")
    if plan["spec"] is None:
        reason = f"{config.promotion.candidate_network} is not among the networks of params.yaml"
        print(f"[search] skipped: {reason}")
        write_json(SEARCH / "best.json", {"best": None, "note": f"No search: {reason}."})
        return
    spec = RunSpec.model_validate(plan["spec"])
    with open_runner(config) as runner:
        best = search_loss_weights(runner, spec, SearchConfig.model_validate(plan["search"]), STUDIES)
    write_json(SEARCH / "best.json", best)


if __name__ == "__main__":
    run_stage(main)
