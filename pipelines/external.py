"""DVC stage `external`: recorded rows and shipped models on sources in no fold; nothing where there is none."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage


def main(config: Config) -> None:
    import pandas as pd

    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.dataset.folds.assignment import Folds
    from bus_mlops.external.reports import ExternalInputs, report_cohorts
    from bus_mlops.probes.rows import Trained

    inputs = ExternalInputs(
        config,
        Benchmark.open(paths.BENCHMARK),
        Folds.open(paths.FOLDS / "folds.csv"),
        Trained.read(paths.PLAN, paths.PREDICTIONS),
        pd.read_csv(paths.AUDIT / "pairs.csv"),
    )
    report_cohorts(inputs, paths.EXTERNAL)


if __name__ == "__main__":
    run_stage(main)
