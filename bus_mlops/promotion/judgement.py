"""Who competes with whom: candidates, baseline, their folds, and the gate's rules G0 to G5 on both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bus_mlops.config import Config, PromotionConfig
from bus_mlops.dataset.folds.assignment import TEST, TRAIN, Folds
from bus_mlops.dataset.folds.leakage import check_leakage
from bus_mlops.errors import EvaluationError, LeakageError, LedgerError, NothingToJudgeError, RegistryError
from bus_mlops.evaluation.metrics import classification_metrics
from bus_mlops.evaluation.results import by_cell, read_predictions
from bus_mlops.gate.gate import GateContext, GateReport, run_gate
from bus_mlops.promotion.aliases import read_aliases
from bus_mlops.promotion.trained_model import TrainedModel, find_trained_model, with_common_seeds
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import Ledger

MT_ESTAN = "mt_estan"
# Tags of a version: the runs of its folds and those of what it was compared with, as JSON lists.
RUNS_TAG, BASELINE_RUNS_TAG = "lineage.runs", "baseline.runs"


@dataclass(frozen=True)
class Judgement:
    """A candidate, what it was compared with, and what the gate found; `champion` is that of the moment of judging."""

    candidate: TrainedModel
    baseline: TrainedModel
    rivals: tuple[TrainedModel, ...]
    context: GateContext
    report: GateReport
    champion: str | None


def registered_name(config: Config) -> str:
    """The registered model's name; one trained on phantoms says so."""
    return "bus-mt-estan-phantom" if config.data.kind == "phantom" else "bus-mt-estan"


def judge_candidates(
    config: Config,
    ledger: Ledger,
    folds: Folds,
    predictions: Path,
    candidate_runs: Sequence[str] = (),
    baseline_run: str | None = None,
) -> Judgement:
    """Judge the candidates against the baseline; of several the best one that passed, else the best one, is returned.

    Candidates are the given runs, else those of `promotion.candidates`; the baseline is the given run, else that
    of `promotion.baseline`. Raises NothingToJudgeError, EvaluationError, LedgerError, RegistryError.
    """
    name = registered_name(config)
    champion = read_aliases(ledger.client, name).champion
    candidates = _candidates(config, ledger, predictions, candidate_runs)
    baseline = _baseline(config, ledger, predictions, candidates, champion, baseline_run)
    expected = expected_folds(folds, candidates[0], config.folds.run)
    (baseline, *candidates), notes = with_common_seeds([baseline, *candidates], expected)
    if champion and config.promotion.baseline != "champion" and baseline_run is None:
        notes += (f"Version {champion} is champion, but promotion.baseline asks for {config.promotion.baseline}.",)
    judgements = [
        _judge(config, folds, candidate, baseline, candidates, expected, champion, notes) for candidate in candidates
    ]
    return max(
        judgements, key=lambda each: (each.report.passed, score(each.candidate.part("test"), config.promotion.metric))
    )


def gate_context(
    name: str,
    is_phantom: bool,
    folds: Folds,
    candidate: TrainedModel,
    baseline: TrainedModel,
    expected: Sequence[int],
    seed: int,
) -> GateContext:
    """What the gate must know besides predictions; EvaluationError if these are not the candidate's folds."""
    cohort = cohort_of(folds, candidate)
    if folds.digest(cohort["image_id"]) != candidate.lineage.folds_digest:
        raise EvaluationError(
            f"{candidate.title} was not trained on these folds: their digest differs from that of its runs. Bring the "
            "folds back (`dvc checkout data/folds`), or train it on the present ones (`dvc repro`)."
        )
    counts = {part: {fold: int((cohort[f"fold_{fold}"] == part).sum()) for fold in expected} for part in (TRAIN, TEST)}
    return GateContext(
        model_name=name,
        is_phantom=is_phantom,
        expected_folds=tuple(expected),
        candidate=candidate.lineage,
        baseline=baseline.lineage,
        n_train=counts[TRAIN],
        n_test=counts[TEST],
        leak_check=leak_check(folds),
        seed=seed,
    )


def judge(
    candidate: TrainedModel,
    baseline: TrainedModel,
    rivals: Sequence[TrainedModel],
    promotion: PromotionConfig,
    context: GateContext,
    notes: tuple[str, ...] = (),
) -> GateReport:
    """Rules G0 to G5; the same for a decision and for its verification."""
    report = run_gate(
        candidate.predictions, baseline.predictions, promotion, context, [rival.predictions for rival in rivals]
    )
    others = tuple(f"Candidate of the same decision: {rival.title}." for rival in rivals)
    titles = [f"{each.strategy}: {each.title}" for each in (candidate, baseline)]
    return replace(report, candidate=titles[0], baseline=titles[1], notes=(*report.notes, *others, *notes))


def expected_folds(folds: Folds, candidate: TrainedModel, selected: Sequence[int] | None) -> tuple[int, ...]:
    """The folds (1-based) that test an image of the candidate's sources, among those selected for training."""
    cohort = cohort_of(folds, candidate)
    return tuple(
        fold
        for fold in range(1, folds.count + 1)
        if (not selected or fold in selected) and (cohort[f"fold_{fold}"] == TEST).any()
    )


def cohort_of(folds: Folds, candidate: TrainedModel) -> pd.DataFrame:
    """The rows of the folds that the candidate's sources have."""
    return folds.frame[folds.frame["source"].isin(candidate.predictions["source"].unique())]


def leak_check(folds: Folds) -> str:
    """`passed`, or where a group or a case lies in more than one part."""
    try:
        check_leakage(folds)
    except LeakageError as error:
        return str(error)
    return "passed"


def score(test: pd.DataFrame, metric: str) -> float:
    """Mean of a metric (fraction) over the (fold, seed) cells of test predictions, at threshold 0.5."""
    values = [
        classification_metrics(cell["label"].to_numpy(), cell["probability"].to_numpy())[metric]
        for _, cell in by_cell(test)
    ]
    return float(np.mean(values))


def _judge(
    config: Config,
    folds: Folds,
    candidate: TrainedModel,
    baseline: TrainedModel,
    candidates: Sequence[TrainedModel],
    expected: Sequence[int],
    champion: str | None,
    notes: tuple[str, ...],
) -> Judgement:
    rivals = tuple(each for each in candidates if each is not candidate)
    is_phantom = config.data.kind == "phantom"
    context = gate_context(registered_name(config), is_phantom, folds, candidate, baseline, expected, config.seed)
    report = judge(candidate, baseline, rivals, config.promotion, context, notes)
    return Judgement(candidate, baseline, rivals, context, report, champion)


def _candidates(config: Config, ledger: Ledger, predictions: Path, runs: Sequence[str]) -> list[TrainedModel]:
    if runs:
        found = [find_trained_model(ledger, run) for run in runs]
    else:
        # What is left of a strategy that is no longer planned is not judged.
        unplanned = [name for name in config.promotion.candidates if name not in ("tuned", *config.strategies)]
        if unplanned:
            raise NothingToJudgeError(
                f"promotion.candidates names {unplanned[0]}, which is not among the strategies of params.yaml: add it "
                "there, or take it out of promotion.candidates."
            )
        found = [_of_network(ledger, _frame(predictions, s), MT_ESTAN) for s in config.promotion.candidates]
    # Two strategies may have led to the same parameters; it is one candidate then.
    return list({tuple(sorted(each.fingerprints.values())): each for each in found}.values())


def _baseline(
    config: Config,
    ledger: Ledger,
    predictions: Path,
    candidates: Sequence[TrainedModel],
    champion: str | None,
    run: str | None,
) -> TrainedModel:
    if run is not None:
        return find_trained_model(ledger, run)
    wanted = config.promotion.baseline
    if wanted == "champion" and champion is not None:
        return _of_champion(ledger, registered_name(config), champion, candidates)
    frame = _rivals(config, predictions)
    if wanted not in ("champion", "best"):
        return _of_network(ledger, frame, wanted)
    others = sorted(set(frame["network"]) - {MT_ESTAN})
    if not others:
        raise NothingToJudgeError("there is nothing to compare MT-ESTAN with: add another network to params.yaml.")
    test = frame[frame["part"] == TEST]
    return _of_network(
        ledger, frame, max(others, key=lambda n: score(test[test["network"] == n], config.promotion.metric))
    )


def _rivals(config: Config, predictions: Path) -> pd.DataFrame:
    """Predictions of all rows on the images with masks that name a class: networks that only segment name none."""
    planned = [name for name in ("multitask", "approaches") if name in config.strategies]
    if not planned:
        raise NothingToJudgeError(
            "there is nothing to compare MT-ESTAN with: add multitask or approaches to strategies of params.yaml."
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
    itself = set(runs) & {run for each in candidates for run in each.runs.values()}
    return find_trained_model(ledger, (former if itself else runs)[0])


def _of_network(ledger: Ledger, frame: pd.DataFrame, network: str) -> TrainedModel:
    rows = frame[frame["network"] == network]
    if rows.empty:
        raise NothingToJudgeError(
            f"no predictions of {network} that could be judged: it must be among the networks of params.yaml, and a "
            "network of multitask or approaches, which must be among the strategies."
        )
    first = rows.iloc[0]
    key = LedgerKey(str(first["fingerprint"]), int(first["fold"]))
    run = ledger.finished().get(key)
    if run is None:
        raise LedgerError(
            f"the ledger has no finished run for fold {key.fold} of {network}, though its predictions are here: "
            "was the MLflow database replaced? Run `dvc repro --force` to train and record it again."
        )
    return find_trained_model(ledger, run)


def _frame(predictions: Path, strategy: str) -> pd.DataFrame:
    return read_predictions(predictions / f"{strategy}.parquet")
