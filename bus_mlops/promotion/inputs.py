"""What a promotion works on: a project after its training stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bus_mlops.config import Config
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import TEST, Folds
from bus_mlops.errors import DatasetError
from bus_mlops.evaluation.results import check_collected
from bus_mlops.experiments.plan import tuned_name
from bus_mlops.paths import BENCHMARK, FOLDS, PREDICTIONS
from bus_mlops.tracking.ledger import Ledger


def registered_name(config: Config) -> str:
    """The registered model's name: that of the candidate network; one trained on phantoms says so."""
    name = "bus-" + config.promotion.candidate_network.replace("_", "-")
    return f"{name}-phantom" if config.data.kind == "phantom" else name


def assembled() -> Benchmark | None:
    """The assembled images of the project in the working folder; None where they are not there."""
    try:
        return Benchmark.open(BENCHMARK)
    except DatasetError:
        return None


def tested_today(config: Config) -> frozenset[str]:
    """The images with masks that the present folds test, as a candidate's are; empty where there are no folds."""
    path = FOLDS / "folds.csv"
    if not path.is_file():
        return frozenset()
    masked = config.cohorts["multitask"]
    frame = Folds.open(path).frame
    columns = [f"fold_{number}" for number in config.folds_of(masked)]
    tested = frame["source"].isin(masked) & (frame[columns] == TEST).any(axis=1)
    return frozenset(frame.loc[tested, "image_id"].astype(str))


@dataclass(frozen=True)
class PromotionInputs:
    """Parameters, ledger, images and folds; `predictions` is the folder that holds a file for each strategy."""

    config: Config
    ledger: Ledger
    benchmark: Benchmark
    folds: Folds
    predictions: Path

    @classmethod
    def open(cls, config: Config) -> PromotionInputs:
        """Those of the project in the working folder.

        Raises:
            EvaluationError: A file of predictions is not what was collected from the ledger.
        """
        check_collected(PREDICTIONS, (*map(tuned_name, config.searches), *config.strategies))
        folds = Folds.open(FOLDS / "folds.csv")
        return cls(config, Ledger(config.tracking), Benchmark.open(BENCHMARK), folds, PREDICTIONS)

    @property
    def example(self) -> Path | None:
        """The file of an image to try a model on: the first malignant one that a fold tests; None if it is gone."""
        tested = tested_today(self.config)
        frame = self.benchmark.frame
        malignant = frame[(frame["label"] == 1) & frame["image_id"].isin(tested)]
        paths = [self.config.data.root / str(path) for path in malignant["path"]]
        return next((path for path in paths if path.is_file()), None)

    @property
    def model_name(self) -> str:
        """The registered model's name."""
        return registered_name(self.config)
