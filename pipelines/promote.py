"""DVC stage `promote`: the gate's verdict on MT-ESTAN, its version in the registry, and the alias if it passed."""

from bus_mlops.config import Config
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.entry import run_stage
from bus_mlops.errors import NothingToJudgeError
from bus_mlops.files import write_json
from bus_mlops.paths import BENCHMARK, FOLDS, PREDICTIONS, PROMOTION
from bus_mlops.promotion.promote import promote, write_outcome
from bus_mlops.tracking.ledger import Ledger


def main(config: Config) -> None:
    folds = Folds.open(FOLDS / "folds.csv")
    try:
        outcome = promote(config, Ledger(config.tracking), Benchmark.open(BENCHMARK), folds, PREDICTIONS)
    except NothingToJudgeError as error:
        # A profile may well train no candidate, or no rival: the report is made all the same, and says so.
        print(f"[promote] skipped: {error}")
        write_json(PROMOTION / "promotion.json", {"passed": None, "note": f"No promotion: {error}"})
        return
    write_outcome(PROMOTION, outcome)
    for line in outcome.lines():
        print(f"[promote] {line}")


if __name__ == "__main__":
    run_stage(main)
