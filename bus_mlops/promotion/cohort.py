"""What a project will be judged with, known as soon as it has folds, and what the gate can see with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_mlops.config import Config
from bus_mlops.dataset.folds.assignment import TEST, VALIDATION, Folds
from bus_mlops.errors import EvaluationError
from bus_mlops.experiments.strategies import STRATEGIES
from bus_mlops.gate.power import out_of_reach
from bus_mlops.gate.power_cohort import Cohort, Counts
from bus_mlops.promotion.prerequisites import RIVAL_STRATEGIES

if TYPE_CHECKING:
    import pandas as pd


def cohort_of(config: Config, folds: Folds) -> Cohort:
    """The images with masks that folds test, as a candidate and what it is compared with are trained on them.

    Raises:
        EvaluationError: They are too few for any gate.
    """
    masked = config.cohorts["multitask"]
    # Folds that were made before params.yaml asked for more of them are judged as they are.
    numbers = [number for number in config.folds_of(masked) if number <= folds.count]
    columns = [f"fold_{number}" for number in numbers]
    frame = folds.frame[folds.frame["source"].isin(masked)]
    tested = frame[(frame[columns] == TEST).any(axis=1)]
    sizes = tested.groupby("group").size()
    return Cohort(
        sources={str(name): _counts(rows) for name, rows in tested.groupby("source", sort=True)},
        folds=len(numbers),
        seeds=seeds_of(config),
        validation=float((frame[columns] == VALIDATION).sum().mean() / max(1, len(tested))),
        group_size=float((sizes**2).sum() / max(1, sizes.sum())),
    )


def seeds_of(config: Config) -> int:
    """Trainings of each fold that the first candidate and the strategies of its rivals have in common."""
    first = config.promotion.candidates[0]
    strategy = first if first == "approaches" else config.searches[first].strategy
    planned = [strategy, *(name for name in RIVAL_STRATEGIES if name in config.strategies)]
    return min(int(STRATEGIES.get_known(name).settings_of(config).seeds) for name in planned)


def power_notes(config: Config, folds: Folds) -> tuple[str, ...]:
    """What whoever is about to train must know of the gate: rules that can hardly be passed with these images.

    Of phantoms nothing is said: no model of them is as good as the paper's on patients' images, or worse.
    """
    if config.data.kind == "phantom" or not set(RIVAL_STRATEGIES) & set(config.strategies):
        return ()
    try:
        found = out_of_reach(cohort_of(config, folds), config.promotion.model_dump(mode="json"))
    except EvaluationError as error:
        return (f"What the gate could see cannot be told: {error}",)
    return tuple(f"Before anything was trained: {each} (bus-mlops gate --power)" for each in found)


def _counts(rows: pd.DataFrame) -> Counts:
    images, cases = rows["label"].value_counts(), rows.groupby("label")["case_id"].nunique()
    return Counts(*(int(of.get(label, 0)) for of in (images, cases) for label in (1, 0)))
