"""A judgement: candidates against the baseline by the gate's rules, on terms of today, within what is left of alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bus_mlops.config.intent import intent_of
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.ensemble import validation_score
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.report import GateReport
from bus_mlops.promotion.aliases import read_aliases
from bus_mlops.promotion.choices import with_choice
from bus_mlops.promotion.cohort import power_notes
from bus_mlops.promotion.comparing import Terms, compare_models, expected_folds, terms_of
from bus_mlops.promotion.contenders import baseline_of, candidates_of, named_by_hand
from bus_mlops.promotion.external_cohorts import cohorts_of
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.intents import intended_of, pinned, standing
from bus_mlops.promotion.looks import Looks, Question, look_key
from bus_mlops.promotion.trained_model import TrainedModel, with_common_seeds


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
    candidates = candidates_of(inputs, candidate_runs)
    baseline, ranked = baseline_of(inputs, candidates, champion, baseline_run)
    by_hand = named_by_hand(inputs, candidates, champion, baseline) if baseline_run is not None else ()
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
        if intended.first:
            # Runs of earlier versions stated no baseline that this could be another one than.
            intended = replace(intended, changes=intended.changes + by_hand)
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
