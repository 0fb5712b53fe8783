"""What a search has left under `results/search/<name>/`: its trials, and what was chosen for each test fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from bus_mlops.config.base import Strict
from bus_mlops.errors import EvaluationError
from bus_mlops.files import read_json

# In place of a test fold: a choice that is not nested, made once for all folds.
FLAT = 0


class TrialRecord(Strict):
    """One trial of one study, the search of one network for one test fold.

    Attributes:
        network: As in the search.
        fold: The test fold (1-based) that the study chooses for; FLAT if it is not nested.
        number: From 0, the first trial.
        parameters: The value of each path of the space that applies.
        state: A pruned trial has the values of what was trained of it.
        values: Of each objective (fraction), the mean over the steps.
        steps: The first objective on each step: an inner fold, a fold, a seed.
        constraints: The value of each metric under a constraint.
        epochs: Trained anew for it; 0 where the ledger had all.
        runs: The ids of its runs.
        reason: Why it failed or was pruned.
    """

    network: str
    fold: int
    number: int
    parameters: dict[str, Any]
    state: Literal["complete", "pruned", "failed"]
    values: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    constraints: dict[str, float] = Field(default_factory=dict)
    epochs: int = 0
    runs: tuple[str, ...] = ()
    reason: str = ""


class Choice(Strict):
    """What was chosen for a test fold, and against what.

    Attributes:
        fold: As in `TrialRecord`.
        trial: The number of the trial that was chosen.
        best: That of the trial with the best value, which may be another.
        parameters: Those of the chosen trial.
        value: The chosen trial's first objective (fraction), `first_value` the first trial's.
        difference: Of the best trial to the first, in favour of the best.
        standard_error: Of that difference; None where the validation parts are too small to tell.
        reason: Why this trial, in words.
        images: sha256 over the sorted ids of all images that the choice rests on, and how many there are.
    """

    network: str
    fold: int
    trial: int
    best: int
    parameters: dict[str, Any]
    value: float
    first_value: float
    difference: float
    standard_error: float | None
    reason: str
    images: str
    image_count: int


class Stopped(Strict):
    """A study that ended before all its trials: after how many that did not fail, and why."""

    network: str
    fold: int
    trials: int
    reason: str


class SearchResult(Strict):
    """`best.json` of a search. `note` says why there was none."""

    search: str
    nested: bool = True
    engine: str = ""
    sampler: str = ""
    objective: tuple[str, ...] = ()
    standard_errors: float = 1.0
    constraint: dict[str, float] = Field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    trials: tuple[TrialRecord, ...] = ()
    stopped: tuple[Stopped, ...] = ()
    note: str = ""

    def choice(self, network: str, fold: int) -> Choice:
        """What was chosen for a test fold of a network: its own choice, or the flat one.

        Raises:
            EvaluationError: Nothing was, as where the search ran with other networks or folds.
        """
        for each in self.choices:
            if each.network == network and each.fold in (fold, FLAT):
                return each
        raise EvaluationError(
            f"the search {self.search} has chosen nothing for fold {fold} of {network}: params.yaml has changed since. "
            f"Run `dvc repro search@{self.search}`; what was trained is not trained again."
        )


def read_result(path: Path) -> SearchResult | None:
    """A `best.json`; None where it is not there.

    Raises:
        EvaluationError: Another version wrote it.
    """
    if not path.is_file():
        return None
    try:
        return SearchResult.model_validate(read_json(path))
    except ValidationError as error:
        raise EvaluationError(
            f"{path} is of another version of bus-mlops ({error.errors()[0]['msg']}): "
            f"run `dvc repro --force search@{path.parent.name}`; what was trained is not trained again."
        ) from error


def read_results(results: Path) -> dict[str, SearchResult]:
    """What the searches have left that are planned, by name; nothing of one that has not ended.

    Raises:
        EvaluationError: As of `read_result`.
    """
    names = sorted(path.stem.removeprefix("search-") for path in (results / "plan").glob("search-*.json"))
    found = {name: read_result(results / "search" / name / "best.json") for name in names}
    return {name: result for name, result in found.items() if result is not None}
