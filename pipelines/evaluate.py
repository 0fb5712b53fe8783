"""DVC stage `evaluate`: tables, metrics.json and plot data from the out-of-fold predictions."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage


def main(_: Config) -> None:
    from bus_mlops.dataset.flow import incomplete_sources
    from bus_mlops.evaluation.evaluate import evaluate

    incomplete = incomplete_sources(paths.BENCHMARK / "benchmark.json")
    for line in evaluate(paths.PLAN, paths.PREDICTIONS, paths.FOLDS / "folds.csv", paths.RESULTS, incomplete):
        print(line)


if __name__ == "__main__":
    run_stage(main)
