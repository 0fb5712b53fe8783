"""DVC stage `evaluate`: tables, metrics.json and plot data from the out-of-fold predictions."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.paragraphs import tell


def main(_: Config) -> None:
    from bus_mlops.dataset.flow import incomplete_sources
    from bus_mlops.dataset.folds.assignment import Folds
    from bus_mlops.dataset.folds.sealed import sealed_counts, sealed_words
    from bus_mlops.evaluation.evaluate import evaluate

    for line in sealed_words(sealed_counts(Folds.open(paths.FOLDS / "folds.csv").frame)):
        tell("evaluate", line)
    incomplete = incomplete_sources(paths.BENCHMARK / "benchmark.json")
    for line in evaluate(paths.PLAN, paths.PREDICTIONS, paths.FOLDS / "folds.csv", paths.RESULTS, incomplete):
        tell("evaluate", line)


if __name__ == "__main__":
    run_stage(main)
