"""Recorded models as the gate compares them, on the terms of today or of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from bus_mlops.dataset.folds.assignment import TEST, TRAIN, VALIDATION, Folds
from bus_mlops.dataset.folds.leakage import check_leakage
from bus_mlops.errors import EvaluationError, LeakageError
from bus_mlops.gate.comparison import Comparison, GateContext, compare
from bus_mlops.gate.ensemble import SPECIFICITY
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.gate.intent import Intended
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.looks import TakenLook
from bus_mlops.promotion.trained_model import TrainedModel


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
        promotion=config.promotion.model_dump(mode="json", exclude={"candidate_network", "challengers"}),
        members=config.package.members,
    )


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
