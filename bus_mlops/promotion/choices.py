"""How the parameters of a candidate were chosen, and whether the runs of its search say so too.

A search records what it chose, with all trials, as a file of its run in MLflow whose digest is a parameter of that run.
That is believed only as far as it can be computed again: from the validation predictions of the trials' runs, by the
same rule, with none of the images of the test part that the choice is for.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from bus_mlops.dataset.folds.assignment import TEST, TRAIN, VALIDATION, Folds
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.errors import BusMlopsError
from bus_mlops.evaluation.families import in_words
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.searched import FLAT, Choice, SearchResult, TrialRecord
from bus_mlops.experiments.plan import tuned_name
from bus_mlops.promotion.trained_model import TUNED_STRATEGY, RecordedChoice, TrainedModel
from bus_mlops.search.pick import pick
from bus_mlops.search.study import digest_of_images
from bus_mlops.spec import RunSpec
from bus_mlops.tracking.kinds import SEARCH, TRIAL
from bus_mlops.tracking.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

BEST = "best.json"
# A value was written as a text, and computed by another processor.
TOLERANCE = 1e-9


def find_choice(ledger: Ledger, model: TrainedModel, search: str | None = None) -> RecordedChoice:
    """How the parameters of a model were chosen.

    Args:
        ledger: Of its runs, and of the search's.
        model: Whose.
        search: The search that promotion names; None for a model that is named by its runs, whose strategies tell.
    """
    if search is None:
        others = [name for name in model.strategies if name != TUNED_STRATEGY and not name.startswith(tuned_name(""))]
        if others or not model.strategies:
            return RecordedChoice(how="fixed")
        search = model.strategies[-1].removeprefix(tuned_name(""))
    recorded = [result for _, result in _recorded(ledger, search, model.network)]
    # Of several states of a search the one that this model was trained with; else the latest, which says what differs.
    agreeing = [each for each in recorded if not list(_other_parameters(ledger, model, each))]
    result = next(iter([*agreeing, *recorded]), None)
    if search == TUNED_STRATEGY or (result is not None and not result.nested):
        return RecordedChoice(how="flat", search="" if search == TUNED_STRATEGY else search, result=result)
    return RecordedChoice(how="nested", search=search, result=result)


def with_choice(
    ledger: Ledger, model: TrainedModel, choice: RecordedChoice | None, folds: Folds, until: int | None = None
) -> TrainedModel:
    """The model with how its parameters were chosen in its lineage, and what of that does not hold.

    Args:
        ledger: Of its runs, and of the search's.
        model: Whose.
        choice: Of `find_choice`, or of evidence; None where evidence of an earlier version does not say.
        folds: Which images each fold tests.
        until: When it was judged (ms since 1970): what its search has tried since then is no part of it; None: now.
    """
    if choice is None:
        return model
    result = choice.result
    problems = list(_problems(ledger, model, choice, folds, until)) if choice.how == "nested" else []
    cells = sorted({cell.fold for cell in model.runs})
    parameters = {fold: chosen.parameters for fold in cells if result and (chosen := _chosen(result, fold))}
    lineage = replace(
        model.lineage,
        chosen=choice.how,
        search=choice.search,
        parameters=in_words(parameters) if parameters else "",
        choice_problems=tuple(f"the choice of the search {choice.search} does not hold: {each}" for each in problems),
    )
    return replace(model, lineage=lineage, choice=choice)


def _recorded(ledger: Ledger, search: str, network: str) -> Iterator[tuple[str, SearchResult]]:
    """In which of its runs (one a space, start, sampler, ...) a search recorded what of a network, the latest first."""
    query = f"tags.kind = '{SEARCH}' and tags.`search.name` = '{search}' and tags.network = '{network}'"
    for run in ledger.runs(query):
        files = [name for name in ledger.artifact_digests(run.info.run_id) if Path(name).name == BEST]
        for name in sorted(files, key=_state, reverse=True):
            with tempfile.TemporaryDirectory(prefix="bus-search-") as folder:
                text = ledger.artifact(run.info.run_id, name, Path(folder)).read_bytes()
            try:
                yield run.info.run_id, SearchResult.model_validate_json(text)
            except ValidationError:  # of another version
                continue


def _state(name: str) -> int:
    found = re.match(r"state-(\d+)", name)
    return int(found[1]) if found else 0


def _chosen(result: SearchResult, fold: int) -> Choice | None:
    return next((each for each in result.choices if each.fold in (fold, FLAT)), None)


def _problems(
    ledger: Ledger, model: TrainedModel, choice: RecordedChoice, folds: Folds, until: int | None
) -> Iterator[str]:
    from mlflow.exceptions import MlflowException

    result = choice.result
    if result is None:
        yield f"MLflow has no run of it for {model.network} with its {BEST}: run `dvc repro search@{choice.search}`"
        return
    yield from _other_parameters(ledger, model, result)
    again = (
        f"run `dvc repro --force search@{choice.search} tuned@{choice.search}`; what was trained is not trained again"
    )
    run = next((run for run, each in _recorded(ledger, choice.search, model.network) if each == result), None)
    if run is None:
        yield f"no run of the search has this {BEST}: {again}"
    elif missing := _left_out(ledger, run, result, until):
        yield f"{missing} is complete in MLflow and not among those it was chosen from: {again}"
    for fold in sorted({cell.fold for cell in model.runs}):
        chosen = next((each for each in result.choices if each.fold == fold), None)
        if chosen is None:
            yield f"nothing was chosen for fold {fold}"
            continue
        try:
            for problem in _of_fold(ledger, model, result, chosen, folds):
                yield f"fold {fold}: {problem}"
        except (BusMlopsError, MlflowException) as error:  # a run is gone, or its files
            yield f"fold {fold}: {error}"


def _of_fold(ledger: Ledger, model: TrainedModel, result: SearchResult, chosen: Choice, folds: Folds) -> Iterator[str]:
    """What of the choice for a fold is not as its trials' runs say."""
    spec = ledger.spec(model.runs[min(cell for cell in model.runs if cell.fold == chosen.fold)])
    parts = parts_of(folds.frame, chosen.fold, spec.cohort, spec.training.validation)
    used = parts.index[parts.isin([TRAIN, VALIDATION])]
    if digest_of_images(used) != chosen.images:
        yield "the images that it rests on are not those that the fold trains and validates on"
    tested = parts.index[parts == TEST]
    groups = set(folds.frame.set_index("image_id")["group"].reindex(tested))
    trials = [each for each in result.trials if each.fold == chosen.fold and each.state == "complete"]
    validation: dict[int, list[pd.DataFrame]] = {}
    other_values: list[str] = []
    for trial in trials:
        validation[trial.number] = []
        for run_id in trial.runs:
            run = ledger.client.get_run(run_id)
            frame = ledger.predictions(run_id)
            frame = frame[frame["part"] == VALIDATION].reset_index(drop=True)
            if run.data.tags.get("fold") != str(chosen.fold):
                yield f"trial {trial.number} rests on run {run_id} of fold {run.data.tags.get('fold')}"
            if met := (set(frame["image_id"]) & set(tested)) or (set(frame["group"]) & groups):
                yield f"trial {trial.number} was judged on {min(met)}, which is tested"
            if other := _differing(ledger.spec(run_id), trial.parameters):
                yield f"run {run_id} of trial {trial.number} was trained with another {other}"
            validation[trial.number].append(frame)
        other_values += _other_values(trial, validation[trial.number], result.objective, result.constraint)
    yield from other_values
    if other_values:
        return
    picked = pick(trials, validation, result)
    if picked.number != chosen.trial:
        yield f"trial {chosen.trial} was taken, but its trials' runs lead to trial {picked.number} ({picked.reason})"
    taken = next((each for each in trials if each.number == chosen.trial), None)
    if taken is None or taken.parameters != chosen.parameters:
        yield f"the parameters are not those of trial {chosen.trial}"
    elif _neutral(ledger.spec(taken.runs[0])) != _neutral(spec):
        yield f"the network was trained otherwise than trial {chosen.trial}, not only with another seed or for longer"


def _other_values(
    trial: TrialRecord, steps: Sequence[pd.DataFrame], objective: Sequence[str], constraint: Mapping[str, float]
) -> Iterator[str]:
    told = {**dict(zip(objective, trial.values, strict=False)), **trial.constraints}
    for name in dict.fromkeys((*objective, *constraint)):
        measured = [METRICS[name].value(step["label"], step["probability"]) for step in steps]
        value = float(np.mean(measured)) if measured else math.nan
        if not math.isclose(value, told.get(name, math.nan), rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"trial {trial.number} has a {name} of {value:.6f}, not of {told.get(name, math.nan):.6f}"


def _other_parameters(ledger: Ledger, model: TrainedModel, result: SearchResult) -> Iterator[str]:
    """Where a model was trained with something else than a search chose."""
    for cell, run in model.runs.items():
        chosen = _chosen(result, cell.fold)
        if chosen is not None and (other := _differing(ledger.spec(run), chosen.parameters)):
            yield f"run {run} (fold {cell.fold}) was trained with another {other} than it chose"


def _differing(spec: RunSpec, parameters: Mapping[str, Any]) -> str:
    """The first path of whose value a spec has another; empty if there is none."""
    values = spec.model_dump(mode="json")
    for path, value in parameters.items():
        inner: Any = values if path.startswith("options.") else values["training"]
        for key in path.split("."):
            inner = inner.get(key) if isinstance(inner, dict) else None
        if inner != value:
            return path
    return ""


def _neutral(spec: RunSpec) -> dict[str, Any]:
    """A spec without what may differ between a trial and the row that was trained with its parameters."""
    values = spec.model_dump(mode="json", exclude={"inner", "seed"})
    values["training"].pop("epochs")
    return values


def _left_out(ledger: Ledger, run_id: str, result: SearchResult, until: int | None) -> str:
    """A complete trial that a search's run has, and a result of it has not; empty if there is none."""
    query = f"tags.kind = '{TRIAL}' and tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'FINISHED'"
    known = {(each.fold, each.number) for each in result.trials}
    for run in ledger.runs(query):
        fold, number = int(run.data.tags["search.fold"]), int(run.data.tags["trial.number"])
        if (fold, number) not in known and (until is None or run.info.start_time <= until):
            return f"trial {number} of fold {fold}"
    return ""
