"""DVC stage `promote`: the gate's verdict on MT-ESTAN, and its version in the registry."""

from bus_mlops.config import Config
from bus_mlops.dataset.folds import Folds
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.files import write_json
from bus_mlops.paths import BENCHMARK, FOLDS, PLAN, PREDICTIONS, PROMOTION
from bus_mlops.registry.promotion import judge, register, write_record
from bus_mlops.stage import run_stage
from bus_mlops.tracking.ledger import Ledger


def main(config: Config) -> None:
    if "mt_estan" not in config.networks or "approaches" not in config.strategies:
        print("[promote] skipped: it needs mt_estan among the networks and `approaches` among the strategies")
        write_json(PROMOTION / "promotion.json", {"passed": None})
        return
    ledger = Ledger(config.tracking)
    candidate, baseline, report = judge(config, ledger, Folds.open(FOLDS / "folds.csv"), PLAN, PREDICTIONS)
    record = register(config, ledger, Benchmark.open(BENCHMARK), candidate, baseline, report)
    write_record(PROMOTION, report, record)
    print(f"[promote] {candidate.title} against {baseline.title}")
    for rule in report.rules:
        print(f"[promote]   {rule.id} {'passed' if rule.passed else 'FAILED'}: {rule.sentence}")
    outcome = "is now champion" if report.passed else "is registered without alias"
    print(f"[promote] {record['model']} version {record['version']} {outcome}")


if __name__ == "__main__":
    run_stage(main)
