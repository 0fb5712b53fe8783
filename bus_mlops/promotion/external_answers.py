"""Reading a cohort that no fold touches: the package and the baseline's whole ensemble answer for its images.

The package answers by the code that consumers run, with all of its members and at its threshold. The baseline is built
likewise from its recorded networks: each calibrated on its own validation part, their mean, a threshold over all
validation parts.
"""

from __future__ import annotations

import math
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from bus_mlops.consumer.client import BusModel
from bus_mlops.consumer.package_files import open_package
from bus_mlops.consumer.package_format import ExternalNumbers, JudgedNumber, combine
from bus_mlops.consumer.refusal import Refusal
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.sealed import sealed_cohorts
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.comparison import PackageCheck
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.gate.gate import run_gate
from bus_mlops.packaging.package import add_external_numbers
from bus_mlops.promotion.candidate_package import PackagedCandidate, calibration_of, threshold_of
from bus_mlops.promotion.external_cohorts import announce, digest_of
from bus_mlops.promotion.recomputation import (
    SAMPLE,
    TOLERANCE,
    answers_of_package,
    as_numbers,
    places_of,
    predict_with_keras,
    rows_of_package,
)
from bus_mlops.promotion.refusal import measured_on_cohort
from bus_mlops.tracking.ledger import MODEL, Ledger

if TYPE_CHECKING:
    from bus_mlops.gate.report import GateReport
    from bus_mlops.promotion.inputs import PromotionInputs
    from bus_mlops.promotion.judgement import Judgement
    from bus_mlops.promotion.trained_model import TrainedModel

METHOD = "whole leakage groups of the cohort drawn; networks, calibration and threshold as they are"
COLUMNS = ["image_id", "case_id", "group", "source", "label"]
Answers = npt.NDArray[np.float64]


def judge_on_cohorts(
    inputs: PromotionInputs, judgement: Judgement, packaged: PackagedCandidate, record: str
) -> tuple[Judgement, GateReport]:
    """Read the cohorts of a judgement, if there are any and no rule refuses the candidate, and complete its report.

    The package gets the numbers too; its networks, calibrations and threshold stay as they are.

    Args:
        inputs: The project after its training stages.
        judgement: With unopened cohorts.
        packaged: The candidate's finished package and the report on it.
        record: On which the look is announced first.

    Returns:
        Judgement and report, as they were where nothing was opened.
    """
    cohorts, report = judgement.terms.external, packaged.report
    if not cohorts or not report.passed:
        return judgement, report
    models = (judgement.candidate, judgement.baseline)
    announce(inputs.ledger.client, record, cohorts, models, inputs.folds, inputs.benchmark, judgement.terms.amended)
    opened = open_package(packaged.folder)
    asked = BusModel(packaged.folder, opened.package, opened=opened)
    read = tuple(
        replace(each, answers=_answers(inputs, asked, judgement.baseline, each, judgement.terms.promotion["threshold"]))
        for each in cohorts
    )
    # The results of all other rules stand, that on the package among them.
    comparison = replace(judgement.comparison, external=read, package=PackageCheck(), notes=report.notes)
    complete = run_gate(comparison, judgement.terms.promotion, report)
    numbers = {each.name: _numbers(each, complete, opened.package.refusal) for each in read}
    add_external_numbers(packaged.folder, numbers, replace(packaged.card, report=complete))
    return replace(judgement, terms=replace(judgement.terms, external=read)), complete


def _numbers(cohort: ExternalCohort, report: GateReport, refusal: Refusal | None) -> ExternalNumbers:
    """What a report says of the candidate on a cohort, and what the package's rules make of its images."""
    values = {name: value for rule in report.rules for name, value in rule.values.items()}
    numbers = {}
    for metric in METRICS:
        ends = [values.get(f"{cohort.name}_{metric}{end}") for end in ("", "_low", "_high")]
        estimate, low, high = (
            float(each) if isinstance(each, int | float) and math.isfinite(each) else None for each in ends
        )
        if estimate is not None:
            numbers[metric] = JudgedNumber(estimate=estimate, low=low, high=high, method=METHOD)
    rows = cohort.answers
    malignant = 0 if rows is None else int((rows["label"] == 1).sum())
    shares = {} if rows is None or refusal is None else measured_on_cohort(refusal, rows)
    return ExternalNumbers(
        images=cohort.images, malignant=malignant, digest=cohort.digest, numbers=numbers, shares=shares
    )


def _answers(
    inputs: PromotionInputs, package: BusModel, baseline: TrainedModel, cohort: ExternalCohort, threshold: str
) -> pd.DataFrame:
    sealed = {each.name: each for each in sealed_cohorts(inputs.folds.frame, package_sources(baseline))}
    rows = sealed[cohort.name].frame[COLUMNS].sort_values("image_id", kind="stable", ignore_index=True)
    cells = list(baseline.runs)
    calibrations = [calibration_of(baseline, cell) for cell in cells]
    told = list(rows_of_package(package, inputs.benchmark, rows["image_id"].tolist()))
    return rows.assign(
        probability=as_numbers(each.probability for each in told),
        oddness=as_numbers(each.oddness for each in told),
        threshold=package.package.threshold,
        probability_baseline=answers_of_runs(inputs.ledger, baseline, inputs.benchmark, rows["image_id"].tolist()),
        threshold_baseline=threshold_of(baseline, cells, calibrations, threshold),
    )


def package_sources(model: TrainedModel) -> set[str]:
    """The sources of a model, whose locked part is its own."""
    return set(model.predictions["source"].unique())


def answers_of_runs(ledger: Ledger, model: TrainedModel, benchmark: Benchmark, images: list[str]) -> Answers:
    """Probabilities (N,) of a model's recorded networks together, each calibrated on its own validation part."""
    index, answers = places_of(benchmark, images), []
    for cell, run in model.runs.items():
        size = ledger.spec(run).training.input_size
        with tempfile.TemporaryDirectory(prefix="bus-cohort-") as folder:
            raw = predict_with_keras(ledger.artifact(run, MODEL, Path(folder)), benchmark.images(size), index)
        answers.append(calibration_of(model, cell).apply(raw))
    return combine(np.stack(answers))


def answers_anew(
    ledger: Ledger,
    package: BusModel | None,
    baseline: TrainedModel,
    cohorts: Sequence[ExternalCohort],
    folds: Folds,
    benchmark: Benchmark | None,
    full: bool,
) -> tuple[list[str], list[str], str]:
    """Predict images of read cohorts anew, a sample drawn at random unless `full`, and compare.

    Returns:
        Problems, what could not be looked at, and a sentence on what was.
    """
    problems, unseen = [], []
    greatest, predicted, of = 0.0, 0, 0
    for cohort in cohorts:
        rows = cohort.answers
        if rows is None:
            continue
        if benchmark is None or package is None:
            unseen.append(f"{cohort.name}: the {'assembled images are' if package else 'package is'} not here")
            continue
        there = set(benchmark.frame["image_id"])
        if not set(rows["image_id"]) <= there or digest_of(folds, benchmark, rows["image_id"]) != cohort.digest:
            unseen.append(f"{cohort.name}: its images here are not those that were judged ({cohort.digest[:12]})")
            continue
        of += len(rows)
        if not full and len(rows) > SAMPLE:
            rows = rows.iloc[sorted(secrets.SystemRandom().sample(range(len(rows)), SAMPLE))]
        images = rows["image_id"].tolist()
        now = {
            "probability": answers_of_package(package, benchmark, images),
            "probability_baseline": answers_of_runs(ledger, baseline, benchmark, images),
        }
        predicted += len(rows)
        for column, values in now.items():
            for image, then, again in zip(images, rows[column], values, strict=True):
                greatest = max(greatest, abs(then - again))
                if not abs(then - again) <= TOLERANCE:
                    problems.append(f"{image}: {column} is recorded as {then:.4f}, and comes out as {again:.4f}")
    return (
        problems,
        unseen,
        f"{predicted} of {of} images were predicted anew, the greatest difference is {greatest:.1e}",
    )
