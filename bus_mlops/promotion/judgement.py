"""Who is compared with whom: candidates, baseline, the folds of both, and the gate's rules on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bus_mlops.config import Config
from bus_mlops.config.intent import intent_of
from bus_mlops.dataset.folds.assignment import TEST, TRAIN, VALIDATION, Folds
from bus_mlops.dataset.folds.leakage import check_leakage
from bus_mlops.errors import EvaluationError, LeakageError, LedgerError, NothingToJudgeError, RegistryError
from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.results import read_predictions
from bus_mlops.gate.comparison import Comparison, GateContext, compare
from bus_mlops.gate.ensemble import SPECIFICITY, validation_score
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.intent import Intended
from bus_mlops.gate.report import GateReport
from bus_mlops.promotion.aliases import read_aliases
from bus_mlops.promotion.choices import find_choice, with_choice
from bus_mlops.promotion.cohort import power_notes
from bus_mlops.promotion.external_cohorts import cohorts_of
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.intents import intended_of, pinned, standing
from bus_mlops.promotion.looks import Looks, Question, TakenLook, look_key
from bus_mlops.promotion.prerequisites import RIVAL_STRATEGIES, strategy_of
from bus_mlops.promotion.trained_model import (
    TrainedModel,
    find_model_by_fold,
    find_trained_model,
    read_trained_model,
    with_common_seeds,
)
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import Ledger

# Tags of a version: the runs of its folds and those of what it was compared with, as JSON lists.
RUNS_TAG, BASELINE_RUNS_TAG = "lineage.runs", "baseline.runs"


@dataclass(frozen=True)
class Terms:
    """On what terms models are judged, today's or those that a record keeps.

    Attributes:
        promotion: The keys of that section of `params.yaml`, the limits of the rules among them, as plain values.
        members: What is packaged of a candidate: `package.members`.
        baseline_choice: As in `GateContext`.
        external: What no fold touches, with answers once somebody has looked.
        amended: Why it may be read once more.
        look: What may be spent of alpha; None in evidence of earlier versions.
        intended: What was changed since the candidate's first run began.
        stated: The statement of intent that this is compared with; None in evidence of earlier versions.
    """

    model_name: str
    is_phantom: bool
    folds: Folds
    expected_folds: tuple[int, ...]
    seed: int
    promotion: Mapping[str, Any]
    members: str = "all"
    baseline_choice: Mapping[str, float] = field(default_factory=dict)
    external: tuple[ExternalCohort, ...] = ()
    amended: str | None = None
    look: TakenLook | None = None
    intended: Intended = field(default_factory=Intended)
    stated: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Judgement:
    """A candidate, what it was compared with, and what the gate found; `champion` is that of the moment of judging."""

    candidate: TrainedModel
    baseline: TrainedModel
    rivals: tuple[TrainedModel, ...]
    terms: Terms
    comparison: Comparison
    report: GateReport
    champion: str | None


def judge_candidates(
    inputs: PromotionInputs,
    candidate_runs: Sequence[str] = (),
    baseline_run: str | None = None,
    amend: str | None = None,
) -> Judgement:
    """Judge the candidates against the baseline.

    Of several the one of those that passed, else of all, is returned that is best on its validation parts.

    Args:
        inputs: The project after its training stages.
        candidate_runs: Else those of `promotion.candidates`.
        baseline_run: Else that of `promotion.baseline`.
        amend: Why terms hold that were changed after a candidate's first run had begun, and why a cohort that no fold
            touches may be read once more.

    Raises:
        NothingToJudgeError: `params.yaml` leaves no candidate, or nothing to compare it with.
        EvaluationError: Predictions are missing or cannot be compared.
        LedgerError: A run is not there, or is no training on folds.
        RegistryError: A run is of another network than the registered name's, or the champion of another version.
    """
    promotion = inputs.config.promotion
    champion = read_aliases(inputs.ledger.client, inputs.model_name).champion
    candidates = _candidates(inputs, candidate_runs)
    baseline, ranked = _baseline(inputs, candidates, champion, baseline_run)
    expected = expected_folds(inputs.folds, candidates[0], inputs.config.folds.run)
    (baseline, *candidates), notes = with_common_seeds([baseline, *candidates], expected)
    candidates = [with_choice(inputs.ledger, each, each.choice, inputs.folds) for each in candidates]
    baseline = with_choice(inputs.ledger, baseline, baseline.choice, inputs.folds)
    if champion and promotion.baseline != "champion" and baseline_run is None:
        notes += (f"Version {champion} is champion, but promotion.baseline asks for {promotion.baseline}.",)
    later = {
        run for each in (baseline, *candidates) for run in each.runs.values() if inputs.ledger.files.recorded_later(run)
    }
    if later:
        notes += (
            f"The files of {len(later)} runs were recorded after the runs had ended (bus-mlops repair --record).",
        )
    notes += power_notes(inputs.config, inputs.folds)
    shared = replace(terms_of(inputs, expected), baseline_choice=ranked)
    looks = Looks(inputs.ledger.client, inputs.model_name)
    asked = _question(shared, candidates, baseline)
    look, raised = looks.take(asked, amended=bool(amend))
    notes = (look.sentence, *notes)
    today = intent_of(inputs.config)
    others = (*raised, *pinned(today, promotion.protocol))
    judgements = []
    for candidate in candidates:
        intended = intended_of(inputs.ledger, candidate, today, others)
        reason = amend or standing(looks.find(asked.key), intended.changes)
        intended = replace(intended, amended=reason if intended.changes else "")
        terms = replace(shared, look=look, intended=intended, stated=today.terms)
        rivals = tuple(each for each in candidates if each is not candidate)
        cohorts = cohorts_of(
            inputs.ledger.client, inputs.model_name, (candidate, baseline), inputs.folds, inputs.benchmark, amend
        )
        own = replace(terms, external=cohorts, amended=amend)
        comparison = compare_models([candidate, baseline, *rivals], own, notes)
        report = run_gate(comparison, own.promotion)
        judgements.append(Judgement(candidate, baseline, rivals, own, comparison, report, champion))
    if len(judgements) == 1:
        return judgements[0]
    # What passed is chosen among by validation, as everything is that is chosen; of equals the first.
    return max(
        judgements,
        key=lambda each: (each.report.passed, validation_score(each.candidate.predictions, promotion.metric)),
    )


def terms_of(inputs: PromotionInputs, expected: Sequence[int]) -> Terms:
    """Today's terms, with the folds (1-based) that each model must have."""
    config = inputs.config
    return Terms(
        model_name=inputs.model_name,
        is_phantom=config.data.kind == "phantom",
        folds=inputs.folds,
        expected_folds=tuple(expected),
        seed=config.seed,
        # Whose network it is, the runs say: it is no condition.
        promotion=config.promotion.model_dump(mode="json", exclude={"candidate_network"}),
        members=config.package.members,
    )


def _question(terms: Terms, candidates: Sequence[TrainedModel], baseline: TrainedModel) -> Question:
    """Which look at which images the candidates ask for together."""
    promotion = terms.promotion
    computed = {
        "seed": terms.seed,
        "folds": list(terms.expected_folds),
        # What answers for a fold; a refit is judged by the networks of the folds, all of them.
        "members": "one" if terms.members == "one" else "all",
    }
    images = frozenset(str(image) for each in candidates for image in each.part("test")["image_id"].unique())
    key = look_key(candidates, baseline, computed, promotion)
    return Question(key, images, alpha=promotion["alpha"], share=promotion["look_share"])


def compare_models(
    models: Sequence[TrainedModel], terms: Terms, notes: tuple[str, ...] = (), answers: pd.DataFrame | None = None
) -> Comparison:
    """Candidate, baseline and rivals, in this order, as the gate judges them; the same for a decision and its check.

    Args:
        models: Those of a decision.
        terms: Of the decision.
        notes: Further sentences for the report.
        answers: What the candidate's package answered, once there is one.

    Raises:
        EvaluationError: The folds are not the candidate's.
    """
    candidate, baseline, *rivals = models
    others = tuple(f"Candidate of the same decision: {rival.title}." for rival in rivals)
    others += tuple(
        f"Parameters of {each.strategy}: {each.title}, chosen {each.lineage.chosen} by the search "
        f"{each.lineage.search}: {each.lineage.parameters}."
        for each in models
        if each.lineage.search and each.lineage.parameters
    )
    others += _choice_note(terms) + _construction_note(candidate, terms)
    compared = compare(
        [each.predictions for each in models],
        _context(candidate, baseline, terms),
        metric=terms.promotion["metric"],
        threshold=terms.promotion["threshold"],
        resamples=terms.promotion["bootstrap"],
        titles=[f"{each.strategy}: {each.title}" for each in models],
        notes=(*others, *notes),
        construction="single" if terms.members == "one" else "ensemble",
        answers=answers,
        at_specificity=terms.promotion.get("at_specificity", SPECIFICITY),
    )
    return replace(compared, external=terms.external)


def _choice_note(terms: Terms) -> tuple[str, ...]:
    """How the baseline was chosen, and what was second."""
    ranked = list(terms.baseline_choice.items())
    if not ranked:
        return ()
    (network, value), *others = ranked
    second = f"second was {others[0][0]} with {others[0][1]:.4f}" if others else "there was no other"
    return (
        f"The baseline was chosen on validation parts: {network} has the best {terms.promotion['metric']} of "
        f"{len(ranked)} networks there ({value:.4f}: the mean over folds, of the mean over seeds); {second}.",
    )


def _construction_note(candidate: TrainedModel, terms: Terms) -> tuple[str, ...]:
    """What is judged, what ships, and how the two differ."""
    seeds, folds = len(candidate.seeds), len(terms.expected_folds)
    each = "network" if seeds == 1 else f"{seeds} networks (one a seed)"
    whose = f"the mean of the fold's {each}" if seeds > 1 else "the fold's one network"
    if terms.members == "one":
        return (
            f"Judged: of each fold the one of its {each} that is best on its validation part, on the fold's test part; "
            "ships: the best of these. The baseline is judged as the mean of its seeds.",
        )
    ships = f"{seeds} refitted on all images, untested" if terms.members == "refit" else f"all {seeds * folds}"
    return (f"Judged: {whose}, on its test part; ships: the mean of {ships}.",)


def _context(candidate: TrainedModel, baseline: TrainedModel, terms: Terms) -> GateContext:
    cohort = cohort_of(terms.folds, candidate)
    if terms.folds.digest(cohort["image_id"]) != candidate.lineage.folds_digest:
        raise EvaluationError(
            f"{candidate.title} was not trained on these folds: their digest differs from that of its runs. Bring the "
            "folds back (`dvc checkout data/folds`), or train it on the present ones (`dvc repro`)."
        )
    n_train, n_test = {}, {}
    for fold in terms.expected_folds:
        parts = cohort[f"fold_{fold}"]
        n_test[fold] = int((parts == TEST).sum())
        learnt = int(parts.isin([TRAIN, VALIDATION]).sum())
        validated = [_validated(model, fold) for model in (candidate, baseline)]
        # A network may have a fraction of its own that validates; less training is the more cautious ratio.
        n_train[fold] = learnt - max(validated) if all(validated) else int((parts == TRAIN).sum())
    return GateContext(
        model_name=terms.model_name,
        is_phantom=terms.is_phantom,
        expected_folds=terms.expected_folds,
        candidate=candidate.lineage,
        baseline=baseline.lineage,
        n_train=n_train,
        n_test=n_test,
        leak_check=leak_check(terms.folds),
        seed=terms.seed,
        baseline_choice=terms.baseline_choice,
        look=terms.look.look if terms.look is not None else None,
        intended=terms.intended,
    )


def _validated(model: TrainedModel, fold: int) -> int:
    rows = model.part("validation")
    return int(rows.loc[rows["fold"] == fold, "image_id"].nunique())


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


def _candidates(inputs: PromotionInputs, runs: Sequence[str]) -> list[TrainedModel]:
    promotion, ledger = inputs.config.promotion, inputs.ledger
    network = promotion.candidate_network
    if runs:
        found = [_told(ledger, find_trained_model(ledger, run)) for run in runs]
    else:
        # What is left of a strategy that is no longer planned is not judged.
        planned = (*inputs.config.searches, *inputs.config.strategies)
        if unplanned := [name for name in promotion.candidates if name not in planned]:
            raise NothingToJudgeError(
                f"promotion.candidates names {unplanned[0]}, which is not among the strategies of params.yaml: add it "
                "there, or take it out of promotion.candidates."
            )
        found = [
            _told(ledger, model, None if name == "approaches" else name)
            for name in promotion.candidates
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
        different.setdefault(_computed(model), model)
    return [each for each in found if different[_computed(each)] is each]


def _told(ledger: Ledger, model: TrainedModel, search: str | None = None) -> TrainedModel:
    """The model with how its parameters were chosen."""
    return replace(model, choice=find_choice(ledger, model, search))


def _computed(model: TrainedModel) -> tuple[Any, ...]:
    return tuple(sorted(model.fingerprints.items()))


def _baseline(
    inputs: PromotionInputs, candidates: Sequence[TrainedModel], champion: str | None, run: str | None
) -> tuple[TrainedModel, dict[str, float]]:
    """The baseline, and by which values it was chosen where it is the best of several."""
    config, ledger = inputs.config, inputs.ledger
    if run is not None:
        return find_trained_model(ledger, run), {}
    wanted = config.promotion.baseline
    if wanted == "champion" and champion is not None:
        return _of_champion(ledger, inputs.model_name, champion, candidates), {}
    frame = _rivals(config, inputs.predictions)
    if wanted not in ("champion", "best"):
        return _of_network(ledger, frame, wanted), {}
    candidate = config.promotion.candidate_network
    others = sorted(set(frame["network"]) - {candidate})
    if not others:
        raise NothingToJudgeError(f"there is nothing to compare {candidate} with: add another network to params.yaml.")
    ranked = _ranked({network: _row(frame, network) for network in others}, config.promotion.metric)
    return _of_network(ledger, frame, next(iter(ranked))), ranked


def _ranked(rows: Mapping[str, pd.DataFrame], metric: str) -> dict[str, float]:
    """Network -> its metric (fraction) on the validation parts, the best first, equals by name; never on a test part.

    Raises:
        EvaluationError: One has none.
    """
    scores = {}
    for network, predictions in rows.items():
        try:
            scores[network] = validation_score(predictions, metric)
        except EvaluationError as error:
            raise EvaluationError(
                f"{network} cannot be compared with others as a baseline: {error} Train it anew (`dvc repro`), or name "
                "a network in promotion.baseline."
            ) from error
    direction = METRICS.get_known(metric).direction
    best = sorted(scores, key=lambda network: (-scores[network], network))
    return {network: direction * scores[network] for network in best}


def _row(frame: pd.DataFrame, network: str) -> pd.DataFrame:
    """The predictions of the first row of a network, which is the one that is judged."""
    rows = frame[frame["network"] == network]
    first = rows[ROW].iloc[0]
    return rows[(rows[ROW] == first).all(axis=1)]


def _rivals(config: Config, predictions: Path) -> pd.DataFrame:
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
    rows = _row(frame, network)
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
