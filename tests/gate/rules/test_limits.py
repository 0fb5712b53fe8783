"""Each rule turns exactly at its limit, by the bound (not the estimate) that it says it judges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predictions import two_models
from scipy import stats

from bus_mlops.evaluation.clustered_test import chance_to_find
from bus_mlops.evaluation.comparison import corrected_resampled_test, holm
from bus_mlops.evaluation.intervals import bootstrap_values
from bus_mlops.evaluation.resampling import weights_within
from bus_mlops.gate.comparison import Comparison, GateContext, Lineage, PackageCheck, compare
from bus_mlops.gate.gate import _result, in_order
from bus_mlops.gate.look import Look
from bus_mlops.gate.report import RuleResult

LINEAGE = Lineage("d" * 64, "f" * 64)
# Test parts of very different shares, so that their mean, least and greatest ratio differ.
TRAINED = {1: 200, 2: 150, 3: 250, 4: 100, 5: 300}
TESTED = {1: 100, 2: 120, 3: 60, 4: 90, 5: 80}
CONTEXT = GateContext(
    model_name="bus-mt-estan",
    is_phantom=False,
    expected_folds=(1, 2, 3, 4, 5),
    candidate=LINEAGE,
    baseline=LINEAGE,
    n_train=TRAINED,
    n_test=TESTED,
    leak_check="passed",
    seed=3,
)
HAIR = 1e-9


@pytest.fixture(scope="module")
def models() -> tuple[pd.DataFrame, pd.DataFrame]:
    return two_models(11, (0.9, 0.87), images=400, seeds=2)


@pytest.fixture(scope="module")
def comparison(models: tuple[pd.DataFrame, pd.DataFrame]) -> Comparison:
    return compare(models, CONTEXT, metric="roc_auc", resamples=300)


def rule_of(comparison: Comparison, identifier: str, **limits: Any) -> RuleResult:
    """The result of one rule in the gate's report: to judge by all of them takes six times as long."""
    return next(_result(rule, comparison, limits) for rule in in_order() if rule.id == identifier)


def number(rule: RuleResult, name: str) -> float:
    value = rule.values[name]
    assert not isinstance(value, str)
    return float(value)


@pytest.mark.parametrize("name", ["sensitivity", "specificity"])
def test_a_floor_is_held_by_the_lower_bound(comparison: Comparison, name: str) -> None:
    floors = {"minimum_sensitivity": 0.0, "minimum_specificity": 0.0}
    low = number(rule_of(comparison, "G1", **floors), f"{name}_low")
    assert low < number(rule_of(comparison, "G1", **floors), name)
    assert rule_of(comparison, "G1", **{**floors, f"minimum_{name}": low - HAIR}).passed
    assert not rule_of(comparison, "G1", **{**floors, f"minimum_{name}": low + HAIR}).passed


def test_floors_and_differences_are_those_of_whole_groups(comparison: Comparison) -> None:
    test = comparison.candidate.test
    labels, probabilities, groups, thresholds, folds = (
        test[name].to_numpy() for name in ("label", "probability", "group", "threshold", "fold")
    )
    weights = weights_within(folds, groups, 300, CONTEXT.seed)
    drawn = bootstrap_values("sensitivity", labels, probabilities, weights, thresholds)
    assert number(rule_of(comparison, "G1"), "sensitivity_low") == pytest.approx(np.quantile(drawn, 0.025))
    apart = replace(comparison, candidate=replace(comparison.candidate, test=test.assign(group=test["image_id"])))
    for rule, name in (("G1", "sensitivity_low"), ("G3", "low"), ("G5", "high"), ("G4", "busi_low")):
        assert number(rule_of(apart, rule), name) != number(rule_of(comparison, rule), name)


def test_few_cases_that_are_all_right_reach_no_floor_and_rule_no_loss_out(comparison: Comparison) -> None:
    """A bootstrap of what never differs has no width; what thirty cancers cannot show must not pass for shown."""
    first = comparison.candidate.test.sort_values("image_id")
    few_ids = first[(first["label"] == 0) | (first.groupby(["fold", "label"]).cumcount() < 6)]["image_id"]

    def right(test: pd.DataFrame, sure: float) -> pd.DataFrame:
        few = test[test["image_id"].isin(few_ids)]
        said = np.where(few["label"] == 1, sure, 1 - sure)
        return few.assign(probability=said, threshold=0.5, threshold_at_specificity=0.5)

    models = comparison.candidate, comparison.baseline
    ours, theirs = (
        replace(model, test=right(model.test, sure), members=right(model.members, sure))
        for model, sure in zip(models, (0.9, 0.8), strict=True)
    )
    perfect = replace(comparison, candidate=ours, baseline=theirs)
    groups = ours.test.loc[ours.test["label"] == 1, "group"].nunique()
    assert groups <= 30
    unseen = stats.binomtest(0, groups).proportion_ci(method="wilson").high
    floors, lost = rule_of(perfect, "G1", minimum_sensitivity=0.95), rule_of(perfect, "G3")
    assert number(floors, "sensitivity") == 1
    assert number(floors, "sensitivity_low") == pytest.approx(1 - unseen)
    assert not floors.passed
    assert number(lost, "difference") == 0
    assert number(lost, "low") == pytest.approx(-unseen, rel=0.05)
    assert not lost.passed


def test_a_metric_that_is_better_when_lower_has_its_bounds_around_it(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Turned round, the lower end of the interval is the upper one of the difference, with the other sign."""
    found, turned = (
        compare(pair, CONTEXT, metric="brier", resamples=100).interval("brier") for pair in (models, models[::-1])
    )
    assert 0 < found.estimate < found.high
    assert found.low < found.estimate
    assert (turned.estimate, turned.low, turned.high) == pytest.approx((-found.estimate, -found.high, -found.low))


def test_without_validation_of_one_model_none_is_calibrated(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    candidate, baseline = models
    raw = compare([candidate, baseline[baseline["part"] == "test"]], CONTEXT, metric="roc_auc", resamples=100)
    assert raw.threshold == "half"
    assert raw.notes
    for judged, model in ((raw.candidate, candidate), (raw.baseline, baseline)):
        test = model[model["part"] == "test"]
        assert (judged.test["threshold"] == 0.5).all()
        means = test.groupby(["fold", "image_id"])["probability"].mean()
        assert judged.test["probability"].tolist() == pytest.approx(means.tolist())


def test_thresholds_are_those_of_calibrated_probabilities(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    candidate, baseline = models
    shifted = candidate.assign(probability=candidate["probability"] / 10)
    one, other = (
        compare([frame, baseline], CONTEXT, metric="roc_auc", resamples=100).candidate.test
        for frame in (candidate, shifted)
    )
    calls, others = (frame["probability"] >= frame["threshold"] for frame in (one, other))
    assert (calls == others).mean() > 0.95
    assert 0.3 < others.mean() < 0.7


def test_superiority_turns_at_alpha(comparison: Comparison) -> None:
    p = number(rule_of(comparison, "G2"), "p_adjusted")
    assert 0 < p < 0.5
    assert rule_of(comparison, "G2", alpha=p + HAIR).passed
    assert not rule_of(comparison, "G2", alpha=p - HAIR).passed


def test_no_alpha_lets_a_worse_model_pass(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    candidate, baseline = models
    swapped = compare([baseline, candidate], CONTEXT, metric="roc_auc", resamples=100)
    p = number(rule_of(swapped, "G2"), "p_adjusted")
    assert 0.5 < p < 1
    assert not rule_of(swapped, "G2", alpha=(1 + p) / 2).passed


def test_superiority_corrects_by_the_mean_ratio_of_the_folds(comparison: Comparison) -> None:
    ours, theirs = (model.metric_by_cell("roc_auc") for model in (comparison.candidate, comparison.baseline))
    ratio = float(np.mean([TESTED[fold] / TRAINED[fold] for fold, _ in sorted(ours)]))
    expected = corrected_resampled_test([ours[k] for k in sorted(ours)], [theirs[k] for k in sorted(ours)], ratio)
    rule = rule_of(comparison, "G2", test="resampled_t")
    assert number(rule, "p_one_sided") == pytest.approx(expected.p_one_sided, rel=1e-12)


def test_rivals_share_alpha(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Holm over the candidates of a decision: beside a worse one, the better one's p counts twice."""
    candidate, baseline = models
    alone = number(rule_of(compare(models, CONTEXT, metric="roc_auc", resamples=100), "G2"), "p_adjusted")
    worse = baseline.assign(probability=1 - baseline["probability"])
    shared = compare([candidate, baseline, worse], CONTEXT, metric="roc_auc", resamples=100)
    assert number(rule_of(shared, "G2"), "p_adjusted") == pytest.approx(2 * alone)
    assert number(rule_of(shared, "G2"), "p_adjusted") == pytest.approx(holm([alone, 1.0])[0])


def test_non_inferiority_turns_at_the_lower_bound(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    worse = compare(models[::-1], CONTEXT, metric="roc_auc", resamples=300)
    low = number(rule_of(worse, "G3"), "low")
    assert low < 0
    assert rule_of(worse, "G3", sensitivity_margin=-low + HAIR).passed
    assert not rule_of(worse, "G3", sensitivity_margin=-low - HAIR).passed


def test_a_source_turns_at_its_estimate(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    candidate, baseline = models
    swapped = compare([baseline, candidate], CONTEXT, metric="roc_auc", resamples=100)
    rule = rule_of(swapped, "G4")
    falls = {source: number(rule, f"{source}_difference") for source in ("busi", "busis")}
    worst = -min(falls.values())
    assert worst > 0
    assert rule_of(swapped, "G4", source_margin=worst + HAIR).passed
    assert not rule_of(swapped, "G4", source_margin=worst - HAIR).passed


def test_a_source_counts_cases_and_may_have_a_margin_of_its_own(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    candidate, baseline = models
    swapped = compare([baseline, candidate], CONTEXT, metric="roc_auc", resamples=100)
    rule = rule_of(swapped, "G4", source_margin=0.0)
    of_busi = candidate[(candidate["source"] == "busi") & (candidate["label"] == 1)]
    assert number(rule, "busi_malignant") == of_busi["case_id"].nunique() < of_busi["image_id"].nunique()
    fallen = {source for source in ("busi", "busis") if number(rule, f"{source}_difference") < 0}
    assert fallen
    assert not rule.passed
    assert rule_of(swapped, "G4", source_margin=0.0, source_margins=dict.fromkeys(fallen, 0.5)).passed


@pytest.mark.parametrize("who", ["candidate", "baseline"])
@pytest.mark.parametrize("kind", ["leaks", "validation_leaks"])
def test_leaks_of_either_model_are_told(comparison: Comparison, who: str, kind: str) -> None:
    told: dict[str, Any] = {kind: "3 groups"}
    changes: dict[str, Any] = {who: replace(LINEAGE, **told)}
    rule = rule_of(replace(comparison, context=replace(CONTEXT, **changes)), "G0")
    assert not rule.passed
    assert f"the {who}'s runs are tagged with {kind.replace('_', ' ')}: 3 groups" in rule.sentence.lower()


def test_a_source_with_few_benign_cases_decides_nothing(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    def few_benign(frame: pd.DataFrame) -> pd.DataFrame:
        kept = (frame["source"] == "busi") | (frame["label"] == 1) | frame["case_id"].isin(spared)
        return frame[kept].reset_index(drop=True)

    candidate, baseline = models
    of_busis = candidate[(candidate["source"] == "busis") & (candidate["label"] == 0)]
    spared = set(of_busis["case_id"].unique()[:12])
    comparison = compare([few_benign(baseline), few_benign(candidate)], CONTEXT, metric="roc_auc", resamples=100)
    rule = rule_of(comparison, "G4", source_malignant=30, source_margin=0.5)
    assert "busis has too few cases to decide" in rule.sentence
    assert "busis_low" not in rule.values
    assert "busi_low" in rule.values


def test_calibration_turns_at_the_upper_bound(comparison: Comparison) -> None:
    high = number(rule_of(comparison, "G5"), "high")
    assert 0 < high < 1
    assert number(rule_of(comparison, "G5"), "difference") < high
    assert rule_of(comparison, "G5", calibration_margin=high + HAIR).passed
    assert not rule_of(comparison, "G5", calibration_margin=high - HAIR).passed


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({"difference": 1e-4}, True),
        ({"difference": 1.1e-4}, False),
        ({"difference": float("nan")}, False),
        ({"asked": 9, "distance": 1e-3}, True),
        ({"asked": 9, "distance": 1.1e-3}, False),
        ({"importable": ("tensorflow",)}, False),
        ({"unsigned": ("outputs",)}, False),
        ({"error": "it does not load"}, False),
    ],
)
def test_a_package_turns_at_its_tolerance(comparison: Comparison, changes: dict[str, Any], passed: bool) -> None:
    check = PackageCheck(forbidden=("tensorflow",), members=2, difference=0.0)
    packaged = replace(comparison, package=replace(check, **changes))
    assert rule_of(packaged, "G6", example_tolerance=1e-4).passed is passed


@pytest.mark.parametrize("column", ["label", "image_id"])
def test_models_that_were_tested_on_other_truths_are_not_compared(
    models: tuple[pd.DataFrame, pd.DataFrame], column: str
) -> None:
    candidate, baseline = models
    row = candidate.index[(candidate["part"] == "test") & (candidate["fold"] == 2)][4]
    value = 1 - candidate.loc[row, "label"] if column == "label" else "busi/another"
    changed = candidate.copy()
    changed.loc[row, column] = value
    rule = rule_of(compare([changed, baseline], CONTEXT, metric="roc_auc", resamples=100), "G0")
    assert not rule.passed
    assert "2 test predictions have no counterpart" in rule.sentence


def test_calibration_and_threshold_come_from_validation_alone(models: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Other labels in the test part change what is counted there, and nothing of what is answered."""
    candidate, baseline = models
    flipped = candidate.assign(label=np.where(candidate["part"] == "test", 1 - candidate["label"], candidate["label"]))
    one, other = (
        compare([frame, baseline], CONTEXT, metric="roc_auc").candidate.test for frame in (candidate, flipped)
    )
    assert one[["probability", "threshold"]].equals(other[["probability", "threshold"]])
    assert one["threshold"].nunique() == 5  # of five folds, each with its own
    half = compare([candidate, baseline], CONTEXT, metric="roc_auc", threshold="half").candidate.test
    assert set(half["threshold"]) == {0.5}


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
