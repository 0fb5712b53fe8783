"""What G2 does at a level of alpha, with one seed, and what every verdict says that it could have seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from predictions import two_models
from test_limits import CONTEXT, rule_of

from bus_mlops.evaluation.clustered_test import chance_to_find
from bus_mlops.gate.comparison import Comparison, compare
from bus_mlops.gate.look import Look


@pytest.fixture(scope="module")
def several() -> Comparison:
    return compare(two_models(5, (0.93, 0.88), images=400, seeds=3), CONTEXT, metric="roc_auc", resamples=200)


def test_a_look_says_at_which_level_it_is_tested(several):
    p = float(rule_of(several, "G2").values["p_adjusted"])
    for level, passed in ((p * 1.01, True), (p * 0.99, False), (0.0, False)):
        look = replace(several, context=replace(CONTEXT, look=Look(2, 0.05, 0.05 - level, level)))
        rule = rule_of(look, "G2", alpha=0.9)
        assert rule.passed is passed
        assert rule.values["level"] == level
    assert "nothing is left" in rule.sentence
    assert rule.power == ""


def test_power_is_of_the_verdicts_own_error_and_level(several):
    rule = rule_of(several, "G2")
    error, degrees = float(rule.values["standard_error"]), float(rule.values["degrees_of_freedom"])
    assert rule.power == f"Would have found +.03 in {100 * chance_to_find(0.03, error, degrees, 0.05):.0f} %."
    assert error**2 == pytest.approx(float(rule.values["case_error"]) ** 2 + float(rule.values["seed_error"]) ** 2)
    assert all(rule_of(several, each).power for each in ("G1", "G3", "G4", "G5"))


def test_one_seed_is_judged_as_before_and_told_why():
    models = two_models(5, (0.93, 0.88), images=400, seeds=1)
    comparison = compare(models, CONTEXT, metric="roc_auc", resamples=200)
    default, asked = rule_of(comparison, "G2"), rule_of(comparison, "G2", test="resampled_t")
    assert default.values == asked.values
    assert "With one seed" in default.sentence
    assert "With one seed" not in asked.sentence
    assert "does not cover other trainings" in rule_of(comparison, "G3").sentence
