"""A judgement: candidates against the baseline by the gate's rules, on terms of today, within what is left of alpha."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bus_mlops.config.intent import intent_of
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.ensemble import validation_score
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.intent import Intended
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


@dataclass(frozen=True)
class Preview:
    """What a judgement would be, without a number of a test part.

    Attributes:
        images: Test images.
        look: Which it would be, and what it may spend.
        changes: Of the terms, each a clause that needs an amendment.
    """

    candidates: tuple[str, ...]
    baseline: str
    images: int
    folds: int
    seeds: int
    look: str
    changes: tuple[str, ...]
    notes: tuple[str, ...]

    def to_lines(self) -> list[str]:
        """For a terminal."""
        return [
            f"would judge {', '.join(self.candidates)} against {self.baseline}",
            f"on {self.images} test images, {self.folds} folds x {self.seeds} seed{'' if self.seeds == 1 else 's'}",
            self.look,
            *(f"needs --amend REASON: {each}" for each in self.changes),
            *self.notes,
            "No number of a test part was computed, and nothing is on record.",
        ]


def preview(inputs: PromotionInputs, candidate_runs: Sequence[str] = (), baseline_run: str | None = None) -> Preview:
    """Whom `judge_candidates` would compare, and which look that would be; writes nothing.

    The arguments and errors are those of `judge_candidates`.
    """
    contest = _contest(inputs, candidate_runs, baseline_run)
    asked = _question(terms_of(inputs, contest.folds), contest.candidates, contest.baseline)
    look, raised = Looks(inputs.ledger.client, inputs.model_name).take(asked)
    today = intent_of(inputs.config)
    changes = [*raised, *pinned(today, inputs.config.promotion.protocol)]
    for candidate in contest.candidates:
        intended = intended_of(inputs.ledger, candidate, today)
        changes += intended.changes + contest.sought_out(intended)
    return Preview(
        candidates=tuple(f"{each.strategy}: {each.title}" for each in contest.candidates),
        baseline=f"{contest.baseline.strategy}: {contest.baseline.title}",
        images=len(asked.images),
        folds=len(contest.folds),
        seeds=len(contest.baseline.seeds),
        look=look.sentence,
        changes=tuple(dict.fromkeys(changes)),
        notes=contest.notes,
    )


def judge_candidates(
    inputs: PromotionInputs,
    candidate_runs: Sequence[str] = (),
    baseline_run: str | None = None,
    amend: str | None = None,
    challenger: str | None = None,
) -> Judgement:
    """Judge the candidates against the baseline.

    Of several the one of those that passed, else of all, is returned that is best on its validation parts.

    Args:
        inputs: The project after its training stages.
        candidate_runs: Else those of `promotion.candidates`.
        baseline_run: Else that of `promotion.baseline`.
        amend: Why terms hold that were changed after a candidate's first run had begun, and why a cohort that no fold
            touches may be read once more.
        challenger: One of `promotion.challengers`, judged instead of the candidates, against the champion if there is
            one, whatever `promotion.baseline` says.

    Raises:
        NothingToJudgeError: `params.yaml` leaves no candidate, or nothing to compare it with.
        EvaluationError: Predictions are missing or cannot be compared.
        LedgerError: A run is not there, or is no training on folds.
        RegistryError: A run is of another network than the registered name's, or the champion of another version.
    """
    promotion = inputs.config.promotion
    contest = _contest(inputs, candidate_runs, baseline_run, challenger)
    champion, baseline, candidates = contest.champion, contest.baseline, contest.candidates
    shared = replace(terms_of(inputs, contest.folds), baseline_choice=contest.ranked)
    looks = Looks(inputs.ledger.client, inputs.model_name)
    asked = _question(shared, candidates, baseline)
    look, raised = looks.take(asked, amended=bool(amend))
    notes = (look.sentence, *contest.notes)
    today = intent_of(inputs.config)
    others = (*raised, *pinned(today, promotion.protocol))
    judgements = []
    for candidate in candidates:
        intended = intended_of(inputs.ledger, candidate, today, others)
        intended = replace(intended, changes=intended.changes + contest.sought_out(intended))
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


class _Contest(NamedTuple):
    """Who is judged against whom, on which folds (1-based) that all have."""

    champion: str | None
    candidates: list[TrainedModel]
    baseline: TrainedModel
    ranked: Mapping[str, float]
    by_hand: tuple[str, ...]
    folds: tuple[int, ...]
    notes: tuple[str, ...]

    def sought_out(self, intended: Intended) -> tuple[str, ...]:
        """The clause on a baseline that was named by hand."""
        # Runs of earlier versions stated none that it could be another one than.
        return self.by_hand if intended.first else ()


def _contest(
    inputs: PromotionInputs, candidate_runs: Sequence[str], baseline_run: str | None, challenger: str | None = None
) -> _Contest:
    promotion = inputs.config.promotion
    champion = read_aliases(inputs.ledger.client, inputs.model_name).champion
    candidates = candidates_of(inputs, candidate_runs, promotion.candidates if challenger is None else (challenger,))
    wanted = promotion.baseline if challenger is None or champion is None else "champion"
    baseline, ranked = baseline_of(inputs, candidates, champion, wanted, baseline_run)
    by_hand = named_by_hand(inputs, candidates, champion, baseline) if baseline_run is not None else ()
    expected = expected_folds(inputs.folds, candidates[0], inputs.config.folds.run)
    (baseline, *candidates), notes = with_common_seeds([baseline, *candidates], expected)
    candidates = [with_choice(inputs.ledger, each, each.choice, inputs.folds) for each in candidates]
    baseline = with_choice(inputs.ledger, baseline, baseline.choice, inputs.folds)
    if champion and wanted != "champion" and baseline_run is None:
        notes += (f"Version {champion} is champion, but promotion.baseline asks for {wanted}.",)
    later = {
        run for each in (baseline, *candidates) for run in each.runs.values() if inputs.ledger.files.recorded_later(run)
    }
    if later:
        notes += (
            f"The files of {len(later)} runs were recorded after the runs had ended (bus-mlops repair --record).",
        )
    notes += power_notes(inputs.config, inputs.folds)
    return _Contest(champion, candidates, baseline, ranked, by_hand, expected, notes)


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
