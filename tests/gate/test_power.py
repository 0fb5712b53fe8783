"""What the gate can see, told before training: the report of the model behind `bus-mlops gate --power`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bus_mlops.errors import EvaluationError
from bus_mlops.gate.power import power_report
from bus_mlops.gate.power_cohort import Cohort, Counts
from bus_mlops.gate.power_rules import Chances, Limits, chances
from bus_mlops.gate.power_scores import Pair, _youden, area_of, fold_moments

BUSI = Cohort.of_counts(647, 210, folds=3, seeds=1)
# As the paper's MT-ESTAN and its best other approach.
PAPER = Pair(area_of(0.904, 0.898), area_of(0.814, 0.914))


def of(cohort: Cohort = BUSI, pair: Pair = PAPER, level: float = 0.05, **promotion: object) -> Chances:
    return chances(cohort, pair, Limits.of(promotion), level)


@pytest.fixture(scope="module")
def report():
    return power_report(BUSI, {})


def test_words_come_first_then_the_tables(report):
    lines = report.to_lines()
    assert lines[0] == report.headline
    assert lines[0].startswith(
        "With 647 images (210 malignant), 3 folds x 1 seed, the gate finds a true gain of +.03 in "
    )
    assert lines[1].startswith("G2 (superiority, +.021) will more probably refuse than pass")
    assert [row.images for row in report.rows] == [647, 220, 1200, 1805, 3641]
    assert all(np.all(np.diff(row.superior) >= 0) for row in report.rows), "a larger gain is found more often"
    assert all(by_all <= by_one for row in report.rows for by_all, by_one in zip(row.gate, row.superior, strict=True))
    assert json.loads(json.dumps(report.to_dict()))["cohort"]["malignant"] == 210


def test_a_model_as_sensitive_as_the_papers_has_a_lower_bound_near_857_with_210_malignant_images(report):
    said = next(each.said for each in report.rules if each.part.startswith("sensitivity"))
    assert float(said.rsplit(" ", 1)[1]) == pytest.approx(0.857, abs=0.006)


def test_what_cannot_be_passed_is_named_with_the_number_of_cases_that_it_needs():
    two = replace(BUSI, sources={"busi": Counts(190, 410, 190, 410), "other": Counts(20, 27, 20, 27)})
    found = power_report(two, {"minimum_sensitivity": 0.86, "minimum_specificity": 0.95})
    sensitivity, specificity, *_, sources, _, _ = found.rules
    assert 0.1 < sensitivity.paper < 0.5
    # The normal approximation without the noise of thresholds: (1.96 + .84)^2 p (1 - p) / distance^2.
    assert sensitivity.malignant is not None
    assert sensitivity.malignant > (1.96 + 0.84) ** 2 * 0.9 * 0.1 / 0.04**2
    assert specificity.paper < 0.05
    assert specificity.benign is None
    assert any(line.startswith("G1 (specificity >= 0.95) cannot be passed") for line in found.warnings)
    assert sources.said == "too small to decide, 30 of each are needed: other (20 malignant, 27 benign cases)"
    assert of(cohort=two, pair=Pair(0.9, 0.9), source_margin=0.0).sources == pytest.approx(0.5, abs=0.05)


def test_what_more_images_folds_and_seeds_do():
    trained = replace(BUSI, folds=5, seeds=3)
    assert (
        of(level=0.05).superiority
        < of(level=0.05, cohort=replace(BUSI, folds=5)).superiority
        < of(cohort=trained).superiority
    )
    assert of(cohort=BUSI.resized(3000)).lost_sensitivity > of().lost_sensitivity
    assert of(cohort=replace(trained, group_size=4)).superiority < of(cohort=trained).superiority
    equal = Pair(0.93, 0.93)
    assert of(cohort=trained, pair=equal).superiority <= 0.055, "the test keeps its level"
    assert of(level=0).superiority == 0


def test_thresholds_are_those_of_the_gate():
    from bus_mlops.evaluation.roc import youden_threshold

    rng = np.random.default_rng(5)
    malignant, benign = rng.normal(1, 1, (20, 15)), rng.normal(0, 1, (20, 30))
    labels = np.repeat([1, 0], [15, 30])
    known = [youden_threshold(labels, 1 / (1 + np.exp(-np.r_[m, b]))) for m, b in zip(malignant, benign, strict=True)]
    ours = 1 / (1 + np.exp(-_youden(malignant, benign)))
    # Halfway in the score is not halfway in the probability, but between the same two.
    assert ours == pytest.approx(known, abs=0.02)


def test_the_variance_of_an_area_is_that_of_delong():
    pair = Pair(0.95, 0.90)
    found = fold_moments(replace(BUSI, seeds=1), pair).images[0, 0]
    assert found == pytest.approx(_drawn_variance(pair), rel=0.15)


def _drawn_variance(pair: Pair) -> float:
    """Of the difference in area on one fold of BUSI, from drawn scores."""
    rng = np.random.default_rng(6)
    differences = []
    for _ in range(600):
        m, b = (np.sqrt(0.75) * rng.normal(size=n) + 0.5 * rng.normal(size=(2, n)) for n in (70, 146))
        areas = [np.mean((m[i] + apart)[:, None] > b[i][None, :]) for i, apart in enumerate(pair.separations)]
        differences.append(areas[0] - areas[1])
    return float(np.var(differences, ddof=1))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: Cohort.of_counts(20, 3, folds=3, seeds=1), "without two images of each class"),
        (lambda: Cohort.of_counts(200, 90, folds=1, seeds=1), "two folds and one seed"),
        (lambda: power_report(BUSI, {}, area=0.97), "at most 0.94"),
    ],
)
def test_what_cannot_be_answered(ask, said):
    with pytest.raises(EvaluationError, match=said):
        ask()
