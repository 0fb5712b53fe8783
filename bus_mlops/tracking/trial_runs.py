"""A trial as a run in MLflow: its parameters, metrics and tags, and the trial that is read back from them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bus_mlops.config import TrackingConfig
from bus_mlops.config.searches import Search
from bus_mlops.evaluation.search_words import (
    labels,
)
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.files import sqlite_file
from bus_mlops.tracking.kinds import SEARCH, TRIAL
from bus_mlops.tracking.search import search_all
from bus_mlops.tracking.store import open_client

if TYPE_CHECKING:
    from mlflow.entities import Run


# Before the name of a metric under a constraint.
LIMITED = "constraint/"
PARENT = "mlflow.parentRunId"
# In what a search's run says of a parameter that only some of its trials have.
WHERE = ", where "


@dataclass(frozen=True)
class RecordedTrial:
    """A trial as MLflow has it: its parameters by the names that people read, and the seconds that it took."""

    trial: TrialRecord
    seconds: float


def recorded_trials(tracking: TrackingConfig, searches: Mapping[str, Search]) -> dict[str, list[RecordedTrial]]:
    """The trials of some searches so far, of the latest runs of each; reads only, so that a store need not be there.

    Raises:
        LedgerError: A store that should be there cannot be reached.
    """
    found: dict[str, list[RecordedTrial]] = {name: [] for name in searches}
    file = sqlite_file(tracking.uri)
    if file is not None and not file.exists():
        return found
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        return found
    of_one = {"search.name": next(iter(searches))} if len(searches) == 1 else {}
    parents, trials = (
        search_all(client, experiment.experiment_id, query_of({"kind": kind, **of_one})) for kind in (SEARCH, TRIAL)
    )
    latest: dict[tuple[str, str], str] = {}
    for run in parents:
        latest.setdefault(_subject(run), run.info.run_id)
    for run in trials:
        search = searches.get(_subject(run)[0])
        if search and run.data.tags[PARENT] == latest.get(_subject(run)) and run.info.status != "RUNNING":
            found[_subject(run)[0]].append(_recorded(run, search.objective))
    for each in found.values():
        each.sort(key=lambda one: (one.trial.network, one.trial.fold, one.trial.number))
    return found


def _subject(run: Run) -> tuple[str, str]:
    """The search and the network that a run is of."""
    return run.data.tags["search.name"], run.data.tags["network"]


def _recorded(run: Run, objective: Sequence[str]) -> RecordedTrial:
    tags, metrics = run.data.tags, run.data.metrics
    trial = TrialRecord(
        network=tags["network"],
        fold=int(tags["search.fold"]),
        number=int(tags["trial.number"]),
        parameters={name: _literal(text) for name, text in run.data.params.items()},
        state=tags["trial.state"],  # type: ignore[arg-type]  # validated there
        values=tuple(metrics[f"validation/{name}"] for name in objective if f"validation/{name}" in metrics),
        constraints={name.removeprefix(LIMITED): value for name, value in metrics.items() if name.startswith(LIMITED)},
        epochs=int(metrics.get("epochs_trained", 0)),
        runs=tuple(filter(None, tags.get("trial.runs", "").split(", "))),
        reason=tags.get("trial.reason", ""),
    )
    return RecordedTrial(trial, metrics.get("seconds", 0.0))


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def query_of(tags: Mapping[str, str]) -> str:
    """The filter of MLflow for runs with these tags."""
    return " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())


def place_of(run: Run) -> tuple[int, int]:
    """Fold and number of the trial that a run is of."""
    return int(run.data.tags["search.fold"]), int(run.data.tags["trial.number"])


def trial_parameters(trial: TrialRecord) -> dict[str, str]:
    """A trial's parameters as those of its run, by the names that people read."""
    named = labels(trial.parameters)
    return {named[path]: str(value) for path, value in trial.parameters.items()}


def trial_metrics(trial: TrialRecord, objective: Sequence[str]) -> list[tuple[str, float, int]]:
    """Value of each objective, the first one on each step, metrics under a constraint, and epochs."""
    values = [(f"validation/{name}", value, 0) for name, value in zip(objective, trial.values, strict=False)]
    steps = [(f"steps/{objective[0]}", value, step) for step, value in enumerate(trial.steps, 1)]
    limits = [(f"{LIMITED}{name}", value, 0) for name, value in trial.constraints.items()]
    return [*values, *steps, *limits, ("epochs_trained", float(trial.epochs), 0)]
