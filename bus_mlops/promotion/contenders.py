"""Whom a judgement is about: the candidates, and the baseline that they are compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bus_mlops.config import Config
from bus_mlops.errors import BusMlopsError, LedgerError, NothingToJudgeError, RegistryError
from bus_mlops.evaluation.results import read_predictions
from bus_mlops.promotion.choices import find_choice
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.prerequisites import RIVAL_STRATEGIES, strategy_of
from bus_mlops.promotion.rivals import first_row, ranked_rivals
from bus_mlops.promotion.trained_model import (
    TrainedModel,
    find_model_by_fold,
    find_trained_model,
    read_trained_model,
)
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import Ledger

# Tags of a version: the runs of its folds and those of what it was compared with, as JSON lists.
RUNS_TAG, BASELINE_RUNS_TAG = "lineage.runs", "baseline.runs"


def candidates_of(inputs: PromotionInputs, runs: Sequence[str], names: Sequence[str]) -> list[TrainedModel]:
    """The models of runs, else those that `promotion` names so; two that are the same computation count once.

    Raises:
        NothingToJudgeError: `params.yaml` leaves no candidate.
        LedgerError: A run is not there, or is no training on folds.
        RegistryError: A run is of another network than the registered name's.
    """
    promotion, ledger = inputs.config.promotion, inputs.ledger
    network = promotion.candidate_network
    if runs:
        found = [_told(ledger, find_trained_model(ledger, run)) for run in runs]
    else:
        # What is left of a strategy that is no longer planned is not judged.
        planned = (*inputs.config.searches, *inputs.config.strategies)
        if unplanned := [name for name in names if name not in planned]:
            key = "candidates" if unplanned[0] in promotion.candidates else "challengers"
            raise NothingToJudgeError(
                f"promotion.{key} names {unplanned[0]}, which is not among the strategies of params.yaml: add it "
                f"there, or take it out of promotion.{key}."
            )
        found = [
            _told(ledger, model, None if name == "approaches" else name)
            for name in names
            for model in [_of_network(ledger, _frame(inputs.predictions, strategy_of(name)), network)]
        ]
    for model in found:
        if model.network != network:
            raise RegistryError(
                f"run {min(model.runs.values())} is of the network {model.network}, but {inputs.model_name} holds "
                f"models of {network} only: set promotion.candidate_network to {model.network} in params.yaml, and it "
                "is judged and registered under its own name."
            )
    # Two strategies may have led to the same parameters; it is one candidate then, by the plainer of their names.
    different: dict[tuple[Any, ...], TrainedModel] = {}
    for model in sorted(found, key=lambda each: each.choice is None or each.choice.how != "fixed"):
        different.setdefault(computed_by(model), model)
    return [each for each in found if different[computed_by(each)] is each]


def _told(ledger: Ledger, model: TrainedModel, search: str | None = None) -> TrainedModel:
    """The model with how its parameters were chosen."""
    return replace(model, choice=find_choice(ledger, model, search))


def computed_by(model: TrainedModel) -> tuple[Any, ...]:
    """What tells whether two models are the same computation."""
    return tuple(sorted(model.fingerprints.items()))


def baseline_of(
    inputs: PromotionInputs, candidates: Sequence[TrainedModel], champion: str | None, wanted: str, run: str | None
) -> tuple[TrainedModel, dict[str, float]]:
    """The baseline that is `wanted`, as `promotion.baseline`, and by which values the best of several was chosen.

    Raises:
        NothingToJudgeError: `params.yaml` leaves nothing to compare with.
        EvaluationError: Predictions are missing.
        RegistryError: The champion is of a version that recorded no runs.
    """
    config, ledger = inputs.config, inputs.ledger
    if run is not None:
        return find_trained_model(ledger, run), {}
    if wanted == "champion" and champion is not None:
        return _of_champion(ledger, inputs.model_name, champion, candidates), {}
    frame = rivals_of(config, inputs.predictions)
    if wanted not in ("champion", "best"):
        return _of_network(ledger, frame, wanted), {}
    ranked = ranked_rivals(frame, config.promotion)
    if not ranked:
        candidate = config.promotion.candidate_network
        raise NothingToJudgeError(f"there is nothing to compare {candidate} with: add another network to params.yaml.")
    return _of_network(ledger, frame, next(iter(ranked))), ranked


def named_by_hand(
    inputs: PromotionInputs, candidates: Sequence[TrainedModel], champion: str | None, baseline: TrainedModel
) -> tuple[str, ...]:
    """A clause where a baseline that a command named is another than the terms ask for: it may have been sought out."""
    wanted = inputs.config.promotion.baseline
    try:
        stated, _ = baseline_of(inputs, candidates, champion, wanted, None)
    except BusMlopsError:
        # Whatever keeps it from being found, it is not the one that was named.
        stated_title = ""
    else:
        if computed_by(stated) == computed_by(baseline):
            return ()
        stated_title = f", {stated.strategy}: {stated.title}"
    return (
        f"--baseline names {baseline.strategy}: {baseline.title}, and promotion.baseline is {wanted}{stated_title}",
    )


def rivals_of(config: Config, predictions: Path) -> pd.DataFrame:
    """Predictions of all rows on the images with masks that name a class: networks that only segment name none."""
    planned = [name for name in RIVAL_STRATEGIES if name in config.strategies]
    if not planned:
        raise NothingToJudgeError(
            f"there is nothing to compare {config.promotion.candidate_network} with: add multitask or approaches to "
            "strategies of params.yaml."
        )
    frame = pd.concat([_frame(predictions, name) for name in planned], ignore_index=True)
    return frame[frame["probability"].notna()]


def _of_champion(ledger: Ledger, name: str, version: str, candidates: Sequence[TrainedModel]) -> TrainedModel:
    """The champion; where it is the candidate itself, what it was compared with when it became champion."""
    tags = ledger.client.get_model_version(name, version).tags
    try:
        runs, former = json.loads(tags[RUNS_TAG]), json.loads(tags[BASELINE_RUNS_TAG])
    except KeyError as error:
        raise RegistryError(
            f"version {version} of {name} is champion, but its tag {error} is missing: it was not registered by this "
            "version of bus-mlops. Name another baseline (promotion.baseline: best, or --baseline RUN)."
        ) from None
    # Models whose parameters were chosen for each fold may share some of their runs.
    own = [set(each.runs.values()) for each in candidates]
    itself = any(each <= set(runs) or set(runs) <= each for each in own)
    return _of_runs(ledger, former if itself else runs)


def _of_runs(ledger: Ledger, runs: Sequence[str]) -> TrainedModel:
    """The model of recorded runs; with more seeds, or what took the place of its runs, if its folds are of one spec."""
    recorded = read_trained_model(ledger, runs)
    specs = {(recorded.fingerprints[cell], cell.seed) for cell in recorded.runs}
    return find_trained_model(ledger, runs[0]) if len(specs) == len(recorded.seeds) else recorded


def _of_network(ledger: Ledger, frame: pd.DataFrame, network: str) -> TrainedModel:
    if network not in set(frame["network"]):
        raise NothingToJudgeError(
            f"no predictions of {network} that could be judged: it must be among the networks of params.yaml, and a "
            "network of multitask or approaches, which must be among the strategies."
        )
    rows = first_row(frame, network)
    finished = ledger.finished()
    runs = {}
    for fold, own in rows[rows["seed"] == rows["seed"].iloc[0]].groupby("fold"):
        key = LedgerKey(str(own["fingerprint"].iloc[0]), int(str(fold)))
        if key not in finished:
            raise LedgerError(
                f"the ledger has no finished run for fold {key.fold} of {network}, though its predictions are here: "
                "was the MLflow database replaced? Run `dvc repro --force` to train and record it again."
            )
        runs[key] = finished[key]
    if len({key.fingerprint for key in runs}) > 1:
        return find_model_by_fold(ledger, {key.fold: run for key, run in runs.items()})
    return find_trained_model(ledger, next(iter(runs.values())))


def _frame(predictions: Path, strategy: str) -> pd.DataFrame:
    return read_predictions(predictions / f"{strategy}.parquet")
