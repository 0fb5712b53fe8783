"""DVC stage `promote`: the gate's verdict on MT-ESTAN, its version in the registry, and the alias if it passed."""

from bus_mlops.config import Config
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.entry import run_stage
from bus_mlops.files import write_json
from bus_mlops.paths import BENCHMARK, FOLDS, PREDICTIONS, PROMOTION
from bus_mlops.promotion.promote import promote, write_outcome
from bus_mlops.tracking.ledger import Ledger


def main(config: Config) -> None:
    if "mt_estan" not in config.networks or "approaches" not in config.strategies:
        print("[promote] skipped: it needs mt_estan among the networks and `approaches` among the strategies")
        write_json(PROMOTION / "promotion.json", {"passed": None})
        return
    folds = Folds.open(FOLDS / "folds.csv")
    outcome = promote(config, Ledger(config.tracking), Benchmark.open(BENCHMARK), folds, PREDICTIONS)
    write_outcome(PROMOTION, outcome)
    for line in outcome.lines():
        print(f"[promote] {line}")


if __name__ == "__main__":
    run_stage(main)
