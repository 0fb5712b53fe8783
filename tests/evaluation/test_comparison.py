"""The corrected resampled t-test by hand and against scipy, its size, and the paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.comparison import corrected_resampled_test, paired_bootstrap_difference


def test_values_by_hand():
    # d = .02 .04 .03 .06 .05: mean .04, s^2 = .001 / 4 = .00025, (1/5 + 1/4) s^2 = .0001125
    test = corrected_resampled_test([0.82, 0.84, 0.83, 0.86, 0.85], [0.80] * 5, test_to_train=0.25)
    assert test.difference == pytest.approx(0.04)
    assert test.t == pytest.approx(0.04 / np.sqrt(0.0001125))
    assert test.degrees_of_freedom == 4
    assert test.p_one_sided == pytest.approx(stats.t.sf(0.04 / np.sqrt(0.0001125), 4))
    reach = 2.7764451 * np.sqrt(0.0001125)  # t table, 4 degrees, 97.5 %
    assert (test.low, test.high) == pytest.approx((0.04 - reach, 0.04 + reach))


pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=15).filter(
    lambda rows: np.std([a - b for a, b in rows]) > 1e-3
)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_without_correction_it_is_scipys_paired_t_test(rows):
    a, b = np.array(rows).T
    plain = stats.ttest_rel(a, b, alternative="greater")
    test = corrected_resampled_test(a, b, test_to_train=1e-12)
    assert (test.t, test.p_one_sided) == pytest.approx((plain.statistic, plain.pvalue), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(pairs, st.floats(0.05, 1))
def test_the_correction_divides_t_by_a_known_factor(rows, ratio):
    a, b = np.array(rows).T
    corrected = corrected_resampled_test(a, b, test_to_train=ratio)
    plain = stats.ttest_rel(a, b).statistic
    assert corrected.t == pytest.approx(plain / np.sqrt(1 + len(a) * ratio))
    swapped = corrected_resampled_test(b, a, test_to_train=ratio)
    assert swapped.t == pytest.approx(-corrected.t)
    assert swapped.p_one_sided == pytest.approx(1 - corrected.p_one_sided)


def test_equal_differences():
    nothing = corrected_resampled_test([0.8, 0.7], [0.8, 0.7], 0.25)
    assert (nothing.t, nothing.p_one_sided) == (0.0, 0.5)
    constant = corrected_resampled_test([0.8, 0.7, 0.9], [0.7, 0.6, 0.8], 0.25)
    assert constant.t == np.inf
    assert constant.p_one_sided == 0.0


def test_size_under_correlated_resamples_is_about_right():
    """Differences of overlapping trainings correlate by n_test / (n_train + n_test); no model is better."""
    rng = np.random.default_rng(0)
    k, ratio, alpha, repetitions = 10, 0.25, 0.05, 4000
    rho = ratio / (1 + ratio)
    shared = rng.normal(size=(repetitions, 1)) * np.sqrt(rho)
    differences = shared + rng.normal(size=(repetitions, k)) * np.sqrt(1 - rho)
    corrected = np.mean([corrected_resampled_test(d, np.zeros(k), ratio).p_one_sided < alpha for d in differences])
    plain = np.mean(stats.ttest_1samp(differences, 0, axis=1, alternative="greater").pvalue < alpha)
    assert corrected == pytest.approx(alpha, abs=0.015)
    assert plain > 2 * alpha


@pytest.mark.parametrize(
    ("candidate", "baseline", "ratio", "message"),
    [
        ([0.8], [0.7], 0.25, "two or more"),
        ([0.8, 0.9], [0.7], 0.25, "got 2 and 1"),
        ([0.8, np.nan], [0.7, 0.7], 0.25, "NaN"),
        ([0.8, 0.9], [0.7, 0.7], 0.0, "above 0"),
    ],
)
def test_what_cannot_be_tested_says_why(candidate, baseline, ratio, message):
    with pytest.raises(EvaluationError, match=message):
        corrected_resampled_test(candidate, baseline, ratio)


def make_pair(gain: float, images: int = 300, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, images)
    baseline = np.clip(0.3 * labels + 0.7 * rng.random(images), 0, 1)
    candidate = np.clip(baseline + gain * labels, 0, 1)
    return labels, candidate, baseline, rng.integers(0, images // 2, images)


def test_a_model_against_itself_differs_by_exactly_nothing():
    labels, _, baseline, groups = make_pair(0)
    for metric in ("sensitivity", "roc_auc", "brier"):
        interval = paired_bootstrap_difference(metric, labels, baseline, baseline, groups, resamples=200)
        assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_a_gain_is_found_and_its_sign_turns():
    labels, candidate, baseline, groups = make_pair(0.15)
    gain = paired_bootstrap_difference("sensitivity", labels, candidate, baseline, groups, resamples=500)
    loss = paired_bootstrap_difference("sensitivity", labels, baseline, candidate, groups, resamples=500)
    assert 0 < gain.low < gain.estimate < gain.high
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))


def test_pairing_narrows_the_interval():
    labels, candidate, baseline, groups = make_pair(0.05)
    paired = paired_bootstrap_difference("roc_auc", labels, candidate, baseline, groups, resamples=500)
    shuffled = candidate.copy()
    rng = np.random.default_rng(1)
    for label in (0, 1):
        chosen = np.flatnonzero(labels == label)
        shuffled[chosen] = candidate[rng.permutation(chosen)]
    loose = paired_bootstrap_difference("roc_auc", labels, shuffled, baseline, groups, resamples=500)
    assert paired.estimate == pytest.approx(loose.estimate)
    assert (paired.high - paired.low) < 0.5 * (loose.high - loose.low)


def test_each_model_is_judged_at_its_own_threshold():
    labels, scores = np.array([1, 1, 1, 1, 0, 0]), np.array([0.1, 0.3, 0.6, 0.9, 0.2, 0.7])
    found = paired_bootstrap_difference(
        "sensitivity",
        labels,
        scores,
        scores,
        np.arange(6),
        candidate_threshold=0.5,
        baseline_threshold=0.2,
        resamples=200,
        confidence=0.9,
    )
    assert found.estimate == pytest.approx(2 / 4 - 3 / 4)
    assert found.low < found.estimate < found.high <= 0


def test_two_models_that_are_right_about_few_cases_rule_no_fall_out():
    labels = np.repeat([0, 1], [40, 5])
    candidate, baseline = np.where(labels == 1, 0.9, 0.1), np.where(labels == 1, 0.8, 0.2)
    for metric in ("sensitivity", "roc_auc"):
        found = paired_bootstrap_difference(metric, labels, candidate, baseline, np.arange(45), resamples=100)
        upper = stats.binomtest(0, 5).proportion_ci(method="wilson").high
        assert (found.estimate, found.low, found.high) == pytest.approx((0, -upper, upper))
    same = paired_bootstrap_difference("sensitivity", labels, candidate, candidate, np.arange(45), resamples=100)
    assert (same.low, same.high) == (0, 0)  # one and the same model
