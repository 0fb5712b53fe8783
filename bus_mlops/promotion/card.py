"""What a card says beside the package, collected where a promotion has it: counts, rules, subgroups, failures, probes.

Subgroups and failures are those of the answers that were judged. Of the stage `probe` only what was measured of the
candidate's own networks is taken: their answers to unchanged images are the recorded ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.consumer.package_format import JudgedNumber, Package
from bus_mlops.dataset.folds.assignment import TEST, TRAIN, VALIDATION, Folds
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.dataset.folds.sealed import sealed_cohorts
from bus_mlops.evaluation.cells import CELL, ROW
from bus_mlops.evaluation.lesions import image_facts
from bus_mlops.evaluation.probed import DROP, UNCHANGED, explanations_of, read_probed, robustness_of
from bus_mlops.evaluation.subgroups import ALL, divided, shortage
from bus_mlops.files import read_json
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.report import GateReport
from bus_mlops.packaging.card_evidence import (
    AuditCounts,
    CardEvidence,
    Corrupted,
    Failures,
    PartCounts,
    Probed,
    SourceCounts,
    SubgroupNumbers,
)
from bus_mlops.paths import AUDIT, PROBES
from bus_mlops.promotion.comparing import cohort_of, leak_check
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.judged_numbers import AT_A_THRESHOLD, numbers_at
from bus_mlops.promotion.judgement import Judgement
from bus_mlops.promotion.recomputation import other_images
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from bus_mlops.dataset.benchmark import Benchmark

IN_SUBGROUPS = ("roc_auc", *AT_A_THRESHOLD)
# Failures of each kind that are named.
NAMED = 3
# Of a probability that is recorded and one that its network gave to the probe, as in that stage.
TOLERANCE = 1e-3
_BEFORE = "before the version is registered"


def card_evidence(
    inputs: PromotionInputs, judgement: Judgement, comparison: Comparison, report: GateReport, package: Package
) -> CardEvidence:
    """What the card of a judged candidate is answered from.

    Args:
        inputs: The project after its training stages.
        judgement: Of the candidate.
        comparison: With the package's answers.
        report: On it.
        package: Complete but for its verdict.
    """
    candidate, terms = judgement.candidate, judgement.terms
    first = next(iter(candidate.runs.values()))
    spec = inputs.ledger.spec(first)
    cohort = cohort_of(inputs.folds, candidate)
    others = other_images(candidate, inputs.folds, inputs.benchmark)
    probes = inputs.predictions.parent / PROBES.name
    probed, unprobed = _probed(probes, candidate)
    audited, unaudited = _audited(inputs.benchmark.folder.parent / AUDIT.name / "audit.json", inputs.benchmark)
    test = comparison.candidate.test
    return CardEvidence(
        report=report,
        spec=spec,
        seeds=candidate.seeds,
        chosen=candidate.lineage.chosen,
        sources=() if others else tuple(_sources(inputs.benchmark, cohort)),
        audit=None if others else audited,
        folds_kind=inputs.folds.kind,
        parts=tuple(_parts(inputs.folds, cohort, terms.expected_folds, spec)),
        groups=int(cohort["group"].nunique()),
        largest_group=int(cohort.groupby("group").size().max()),
        leaks=leak_check(inputs.folds),
        intent=terms.intended.first,
        terms=terms.intended.clause or "; ".join(terms.intended.problems),
        look=terms.look.sentence if terms.look else "",
        subgroups=tuple(_subgroups(comparison, package, None if others else image_facts(inputs.benchmark.folder))),
        failures=tuple(_failures(test, package.threshold)),
        probed=probed,
        absent={"sources": others, "audit": others or unaudited, "probed": unprobed},
    )


def _sources(benchmark: Benchmark, cohort: pd.DataFrame) -> Iterator[SourceCounts]:
    """What the assembly counted of each source of a candidate."""
    for name, images in cohort.groupby("source", sort=True):
        counts = benchmark.info["flow"][str(name)]
        names = ("listed", "kept", "cases", "benign", "malignant", "with_mask")
        yield SourceCounts(
            str(name),
            **{each: int(counts[each]) for each in names},
            excluded=dict(counts.get("excluded", {})),
            in_folds=len(images),
        )


def _audited(path: Path, benchmark: Benchmark) -> tuple[AuditCounts | None, str]:
    """What the audit found, or why that is not to be had."""
    if not path.is_file():
        return None, f"{path.name} is not there: `dvc repro audit` {_BEFORE}"
    found = read_json(path)
    if found["images"] != len(benchmark.frame):
        return None, f"{path.name} is of {found['images']} images, not of those assembled: `dvc repro audit` {_BEFORE}"
    names = ("images", "groups", "exact_duplicate_pairs", "near_duplicate_pairs")
    conflicts = {f"conflicting_{kind}": len(found["conflicts"][kind]) for kind in ("clusters", "cases")}
    return AuditCounts(**{each: int(found[each]) for each in names}, **conflicts), ""


def _parts(folds: Folds, cohort: pd.DataFrame, expected: tuple[int, ...], spec: RunSpec) -> Iterator[PartCounts]:
    """Each part of each fold as the candidate's runs saw it, and what no fold touches."""
    sources = set(cohort["source"])
    rows = cohort.set_index("image_id")
    for fold in expected:
        part_of = parts_of(cohort, fold, sources, spec.training.validation)
        for part in (TRAIN, VALIDATION, TEST):
            yield _part(f"fold {fold} {part}", rows.loc[part_of.index[part_of == part]])
    for sealed in sealed_cohorts(folds.frame, sources):
        yield _part(sealed.name, sealed.frame)


def _part(name: str, rows: pd.DataFrame) -> PartCounts:
    return PartCounts(name, len(rows), int(rows["case_id"].nunique()), int((rows["label"] == 1).sum()))


def _subgroups(comparison: Comparison, package: Package, facts: pd.DataFrame | None) -> Iterator[SubgroupNumbers]:
    """The answers that were judged, in the subgroups of `tables/subgroups.csv`, at the threshold that ships."""
    test = comparison.candidate.test.assign(seed=0, dice=float("nan"))
    for each in divided(test, facts):
        if each.grouping == ALL:
            continue
        small = {name: why for name in IN_SUBGROUPS if (why := shortage(name, each.frame))}
        enough = [name for name in IN_SUBGROUPS if name not in small]
        numbers = numbers_at(comparison, each.frame, enough, package.threshold)
        malignant = int((each.frame["label"] == 1).sum())
        yield SubgroupNumbers(each.grouping, each.name, len(each.frame), malignant, numbers, small)


def _failures(test: pd.DataFrame, threshold: float) -> Iterator[Failures]:
    """What was missed and what was a false alarm; of equal probabilities the first by id is worse."""
    called = test["probability"] >= threshold
    kinds = (("malignant images were called benign", 1, True), ("benign images were called malignant", 0, False))
    for kind, label, ascending in kinds:
        of_class = test["label"] == label
        wrong = test[of_class & (called != label)]
        worst = wrong.sort_values(["probability", "image_id"], ascending=[ascending, True]).head(NAMED)
        named = tuple(zip(worst["image_id"].astype(str), worst["probability"].astype(float), strict=True))
        yield Failures(kind, len(wrong), int(of_class.sum()), named)


def _probed(folder: Path, candidate: TrainedModel) -> tuple[Probed, str]:
    """What was probed of a candidate's networks, or why there is nothing."""
    import pandas as pd

    remedy = f"`dvc repro probe`, with the candidate among probes.rows, {_BEFORE}"
    corrupted, explained = (
        _of_candidate(read_probed(folder / name), candidate) for name in ("robustness.parquet", "explanations.parquet")
    )
    if corrupted.empty and explained.empty:
        there = any((folder / name).is_file() for name in ("robustness.parquet", "explanations.parquet"))
        why = f"what {folder.name}/ holds is not of the candidate's networks, and was not used; " if there else ""
        return Probed(), f"{why}{remedy}"
    row = (corrupted if explained.empty else explained).iloc[0]
    drops = robustness_of(corrupted)
    drops = drops[drops["what"] == DROP]
    greatest = drops[drops["strength"] == drops.groupby("corruption")["strength"].transform("max")]
    costs = pd.read_csv(folder / "cost.csv") if (folder / "cost.csv").is_file() else pd.DataFrame(columns=ROW)
    of_row = costs[(costs[ROW] == row[ROW]).all(axis=1)]
    measured = ("parameters", "multiply_accumulates", "latency_ms", "peak_memory_mb")
    return Probed(
        images=len(explained),
        explanations={str(line["metric"]): _number(line) for line in explanations_of(explained).to_dict("records")},
        robustness=tuple(
            Corrupted(str(line["corruption"]), str(line["parameter"]), str(line["metric"]), _number(line))
            for line in greatest.to_dict("records")
        ),
        cost={name: float(of_row[name].iloc[0]) for name in measured if len(of_row) and of_row[name].notna().iloc[0]},
    ), ""


def _of_candidate(frame: pd.DataFrame, candidate: TrainedModel) -> pd.DataFrame:
    """The rows of a probed model whose answers to unchanged images are those that the candidate's runs recorded."""
    place = [*CELL, "image_id"]
    recorded = candidate.part(TEST)[[*place, "probability"]]
    for _, own in frame.groupby(ROW, sort=True):
        unchanged = own[own["corruption"] == UNCHANGED] if "corruption" in own else own
        both = unchanged.merge(recorded, on=place, suffixes=("", "_recorded"))
        distance = np.abs(both["probability"] - both["probability_recorded"])
        if len(both) == len(unchanged) > 0 and bool((distance <= TOLERANCE).all()):
            return own
    return frame.iloc[:0]


def _number(line: dict[Any, Any]) -> JudgedNumber:
    low, high = (None if np.isnan(line[end]) else float(line[end]) for end in ("low", "high"))
    return JudgedNumber(estimate=float(line["estimate"]), low=low, high=high, method=str(line["method"]))
