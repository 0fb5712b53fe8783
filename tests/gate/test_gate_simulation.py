"""How often the gate is wrong: equal models hardly ever pass, a truly better one mostly does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from predictions import FOLDS, two_models

from bus_mlops.evaluation.clustered_test import Difference, chance_to_find
from bus_mlops.gate.comparison import Comparison, GateContext, Lineage, compare
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.power_cohort import Cohort
from bus_mlops.gate.power_rules import Limits, chances
from bus_mlops.gate.power_scores import Pair
from bus_mlops.gate.report import GateReport
from bus_mlops.gate.rules.superiority import SuperiorityLimits, superiority

# Of 1,200 images 240 are tested in each fold, a fifth of the others is for validation.
LINEAGE = Lineage("d" * 64, "f" * 64)
CONTEXT = GateContext(
    model_name="bus-mt-estan",
    is_phantom=False,
    expected_folds=tuple(range(1, FOLDS + 1)),
    candidate=LINEAGE,
    baseline=LINEAGE,
    n_train=dict.fromkeys(range(1, FOLDS + 1), 768),
    n_test=dict.fromkeys(range(1, FOLDS + 1), 240),
    leak_check="passed",
)


def drawn(seed: int, areas: tuple[float, float]) -> Comparison:
    candidate, baseline = two_models(seed, areas)
    return compare([candidate, baseline], CONTEXT, metric="roc_auc", resamples=100)


def judged(seed: int, areas: tuple[float, float]) -> GateReport:
    # The default limits, with few resamples.
    return run_gate(drawn(seed, areas), {})


def difference(report: GateReport) -> float:
    return float(report.rules[2].values["difference"])


@pytest.mark.slow
def test_two_equal_models_pass_in_at_most_five_percent_of_160_repetitions():
    limits = SuperiorityLimits()
    verdicts = [superiority(drawn(seed, (0.93, 0.93)), limits) for seed in range(160)]
    higher = sum(float(verdict.values["difference"]) > 0 for verdict in verdicts)
    superior = sum(verdict.passed for verdict in verdicts)
    print(f"equal models: higher mean in {higher} of 160, superior by G2 in {superior}")
    assert 60 <= higher <= 100  # a higher mean alone would promote half of them
    assert superior <= 8  # without any help of floors and margins


@pytest.mark.slow
def test_a_model_better_by_three_points_of_area_passes_in_at_least_sixty_percent():
    reports = [judged(10_000 + seed, (0.94, 0.91)) for seed in range(40)]
    mean = sum(map(difference, reports)) / len(reports)
    passed = sum(report.passed for report in reports)
    print(f"+0.03: seen {mean:+.4f} in the mean, passed in {passed} of 40")
    assert mean == pytest.approx(0.03, abs=0.003)
    assert passed >= 24


def test_the_same_in_small():
    worse, equal, better = ([judged(seed, (area, 0.90)) for seed in range(2)] for area in (0.86, 0.90, 0.97))
    assert not any(report.passed for report in worse + equal)
    assert all(report.passed for report in better), better[0].to_markdown()


def test_the_power_that_is_stated_before_training_is_that_of_the_rules_own_errors():
    candidate, baseline, level = 0.925, 0.91, 0.03
    cohort = replace(Cohort.of_counts(1200, 528, folds=FOLDS, seeds=3), group_size=1.3)
    stated = chances(cohort, Pair(candidate, baseline), Limits.of({}), level).superiority
    found = [error_of(seed, (candidate, baseline)) for seed in range(10)]
    by_rule = [
        chance_to_find(candidate - baseline, each.standard_error, each.degrees_of_freedom, level) for each in found
    ]
    assert 0.4 < stated < 0.8
    assert stated == pytest.approx(np.mean(by_rule), abs=0.06)


def error_of(seed: int, areas: tuple[float, float]) -> Difference:
    models = [each[each["part"] == "test"] for each in two_models(seed, areas)]
    return compare(models, CONTEXT, metric="roc_auc", resamples=100).difference("roc_auc")
