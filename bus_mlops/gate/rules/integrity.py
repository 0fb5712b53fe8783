"""G0, integrity: the two models may be compared at all, and the candidate is what its name says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.evaluation.cells import CELL
from bus_mlops.gate.comparison import NO_LEAKS, NOT_RECORDED, Comparison, GateContext, Lineage
from bus_mlops.gate.rule import Verdict, rule
from bus_mlops.spec import CellKey

if TYPE_CHECKING:
    import pandas as pd


class IntegrityLimits(Strict):
    """What the runs of a model must show."""

    require_clean_git: bool = Field(default=True, description="all runs come from committed code")


@rule("G0", "integrity")
def integrity(comparison: Comparison, limits: IntegrityLimits) -> Verdict:
    """Same data and folds without leaks, all finished, an honest choice of parameters, committed code, a true name."""
    context, candidate = comparison.context, comparison.candidate.members
    problems = [
        *_lineage_problems(context),
        *_fold_problems(candidate, comparison.baseline.members, context),
        *_choice_problems(context.candidate),
        *context.intended.problems,
        *(_git_problems(context) if limits.require_clean_git else []),
    ]
    if context.is_phantom and "phantom" not in context.model_name:
        problems.append(f"trained on phantoms, but the name {context.model_name!r} does not say so")
    images, folds, seeds = (int(candidate[column].nunique()) for column in ("image_id", "fold", "seed"))
    found = "; ".join(problems) or (
        f"same {images} images, same {folds} folds ({context.candidate.folds_kind}, no leak) x {seeds} "
        f"seed{'' if seeds == 1 else 's'}, all finished; {_chosen(context.candidate)}{_intended(context)}"
        f"git {_clean(context.candidate)}"
    )
    return Verdict(
        passed=not problems,
        limit="no problem",
        sentence=found[0].upper() + found[1:] + ".",
        values={
            "images": images,
            "folds": folds,
            "seeds": seeds,
            "data_digest": context.candidate.data_digest,
            "folds_digest": context.candidate.folds_digest,
            "folds_kind": context.candidate.folds_kind,
            "commits": ", ".join(sorted({*context.candidate.commits, *context.baseline.commits})),
            "problems": len(problems),
            **_baseline(context),
            # What was registered before this was asked is judged as it was then.
            **({} if context.candidate.chosen == NOT_RECORDED else {"chosen": context.candidate.chosen}),
            **({"protocol": context.intended.first} if context.intended.first else {}),
        },
    )


def _baseline(context: GateContext) -> dict[str, float | int | str]:
    """By what the baseline was chosen, where it is the best of several, and what was second."""
    ranked = list(context.baseline_choice.items())
    if not ranked:
        return {}
    values: dict[str, float | int | str] = {"baselines": len(ranked), "baseline_validation": ranked[0][1]}
    if len(ranked) > 1:
        values |= {"second": ranked[1][0], "second_validation": ranked[1][1]}
    return values


def _lineage_problems(context: GateContext) -> list[str]:
    problems = []
    for kind in ("data", "folds"):
        pair = [getattr(lineage, f"{kind}_digest") for lineage in (context.candidate, context.baseline)]
        if pair[0] != pair[1]:
            problems.append(
                f"{kind} digests differ ({pair[0][:12]} and {pair[1][:12]}): train the baseline on the candidate's "
                f"{kind}, or name another baseline"
            )
    for who, lineage in (("candidate", context.candidate), ("baseline", context.baseline)):
        kind = f"({lineage.folds_kind} folds)"
        if lineage.leaks != NO_LEAKS:
            problems.append(
                f"the {who}'s runs are tagged with leaks: {lineage.leaks} with images in test and in train or "
                f"validation {kind}: its results are too good"
            )
        if lineage.validation_leaks != NO_LEAKS:
            problems.append(
                f"the {who}'s runs are tagged with validation leaks: {lineage.validation_leaks} with images in train "
                f"and in validation {kind}: its epochs, calibration and thresholds rest on images that it knew"
            )
    if context.leak_check != "passed":
        problems.append(f"the leakage check of the folds is {context.leak_check!r}")
    return problems


def _fold_problems(candidate: pd.DataFrame, baseline: pd.DataFrame, context: GateContext) -> list[str]:
    problems = []
    for who, frame in (("candidate", candidate), ("baseline", baseline)):
        there = {CellKey(int(fold), int(seed)) for fold, seed in frame[CELL].drop_duplicates().to_numpy()}
        for seed in sorted({cell.seed for cell in there}):
            missing = [fold for fold in context.expected_folds if CellKey(fold, seed) not in there]
            if missing:
                problems.append(f"the {who} lacks fold {', '.join(map(str, missing))} of seed {seed}")
        if frame.duplicated([*CELL, "image_id"]).any():
            problems.append(f"the {who} predicts an image twice in one fold")
        for fold, rows in frame.groupby("fold"):
            counts = rows.groupby(["image_id", "label"])["seed"].nunique()
            if (counts < rows["seed"].nunique()).any():
                problems.append(f"the {who}'s seeds of fold {fold} were not tested on the same images")
    keys = [set(map(tuple, f[[*CELL, "image_id", "label"]].to_numpy().tolist())) for f in (candidate, baseline)]
    if keys[0] != keys[1]:
        problems.append(f"{len(keys[0] ^ keys[1])} test predictions have no counterpart in the other model")
    return problems


def _choice_problems(candidate: Lineage) -> list[str]:
    if candidate.chosen != "flat":
        return list(candidate.choice_problems)
    search = f"searches.{candidate.search}" if candidate.search else "the search"
    return [
        f"the candidate's parameters were chosen once for all folds (flat), on images that it is then tested on, so "
        f"its results are too good: set `nested: true` in {search} of params.yaml and run `dvc repro`"
    ]


def _chosen(candidate: Lineage) -> str:
    """A clause on how the parameters were chosen, where a search did."""
    return (
        f"parameters chosen for each fold outside its test part: {candidate.parameters}; " if candidate.search else ""
    )


def _intended(context: GateContext) -> str:
    clause = context.intended.clause
    return f"{clause}; " if clause else ""


def _git_problems(context: GateContext) -> list[str]:
    return [
        f"the {who}'s runs are of {_clean(lineage)}: commit (params.yaml too) before training"
        for who, lineage in (("candidate", context.candidate), ("baseline", context.baseline))
        if lineage.git_clean != "yes"
    ]


def _clean(lineage: Lineage) -> str:
    known = {"yes": "clean", "no": "uncommitted changes"}
    reason = f" ({lineage.git_reason})" if lineage.git_reason else ""
    return known.get(lineage.git_clean, f"code that git does not know{reason}")
