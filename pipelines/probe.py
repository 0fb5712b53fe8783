"""DVC stage `probe`: what a few recorded networks look at and bear, their worst failures, and what every row costs."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage


def main(config: Config) -> None:
    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.dataset.folds.assignment import Folds
    from bus_mlops.probes.cache import ProbeCache
    from bus_mlops.probes.probe import ProbeInputs, probe
    from bus_mlops.probes.rows import Trained
    from bus_mlops.tracking.ledger import Ledger

    inputs = ProbeInputs(
        config,
        Ledger(config.tracking),
        Benchmark.open(paths.BENCHMARK),
        Folds.open(paths.FOLDS / "folds.csv"),
        Trained.read(paths.PLAN, paths.PREDICTIONS),
        paths.PLAN,
        ProbeCache(paths.home() / paths.PROBED),
    )
    probe(inputs, paths.PROBES)


if __name__ == "__main__":
    run_stage(main)
