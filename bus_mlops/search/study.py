"""A search: for each network and each test fold a study of its own, whose trials are cells of the ledger.

Studies of different folds share nothing but the ledger. A study ends with a choice, the search with `best.json`.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bus_mlops.evaluation.searched import FLAT, Choice, SearchResult, Stopped, TrialRecord
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.search_plan import SearchPlan
from bus_mlops.search.pick import pick
from bus_mlops.search.trials import Trials, Watcher

if TYPE_CHECKING:
    pass

LOG = logging.getLogger(__name__)


class Engine(Protocol):
    """What proposes trials: runs a study to its end, or goes on with it, and returns its trials by number."""

    def __call__(self, trials: Trials, folder: Path) -> list[TrialRecord]:
        """Run a study; `folder` is where it may keep what it needs to go on."""


ENGINES = {"optuna": "bus_mlops.search.optuna_engine", "keras-tuner": "bus_mlops.search.keras_tuner_engine"}


def run_search(runner: Runner, plan: SearchPlan, studies: Path, watchers: Sequence[Watcher] = ()) -> SearchResult:
    """Run or resume a search: a study for each network and test fold (one a network, if it is not nested).

    Returns:
        What was chosen, with all trials, as `best.json` holds it.

    Raises:
        CellsFailedError: Nothing but failures comes.
    """
    settings = plan.settings
    engine: Engine = import_module(ENGINES[settings.engine]).run_study
    choices: list[Choice] = []
    records: list[TrialRecord] = []
    stopped: list[Stopped] = []
    for start in plan.networks:
        for fold in plan.folds if settings.nested else (FLAT,):
            trials = Trials(runner, plan, start, fold, watchers)
            for watcher in watchers:
                watcher.started(trials)
            own = engine(trials, studies)
            records += own
            choices.append(choice_of(trials, own))
            # Nothing of this study is trained any longer.
            worked = [trial for trial in own if trial.state != "failed"]
            runner.forget_states((trials.spec(t.parameters, step), step.fold) for t in worked for step in trials.steps)
            if trials.stopped:
                count = sum(trial.state != "failed" for trial in own)
                stopped.append(Stopped(network=start.network, fold=fold, trials=count, reason=trials.stopped))
    result = SearchResult(
        search=plan.name,
        nested=settings.nested,
        engine=settings.engine,
        sampler=settings.sampler,
        objective=settings.objective,
        standard_errors=settings.standard_errors,
        constraint=settings.constraint,
        choices=tuple(choices),
        trials=tuple(records),
        stopped=tuple(stopped),
    )
    for watcher in watchers:
        watcher.chosen(result)
    return result


def choice_of(trials: Trials, records: Sequence[TrialRecord]) -> Choice:
    """What a study chose, by the rule of `pick`, and a digest of the images that the choice rests on."""
    complete = [trial for trial in records if trial.state == "complete"]
    validation = {trial.number: [trials.validation(run_id) for run_id in trial.runs] for trial in complete}
    picked = pick(complete, validation, trials.plan.settings)
    by_number = {trial.number: trial for trial in records}
    images = trials.images()
    return Choice(
        network=trials.start.network,
        fold=trials.fold,
        trial=picked.number,
        best=picked.best,
        parameters=by_number[picked.number].parameters,
        value=by_number[picked.number].values[0],
        first_value=picked.first_value,
        difference=picked.difference,
        standard_error=picked.standard_error if math.isfinite(picked.standard_error) else None,
        reason=picked.reason,
        images=digest_of_images(images),
        image_count=len(images),
    )


def digest_of_images(images: Iterable[str]) -> str:
    """sha256 over the sorted ids, a line each."""
    return hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest()
