"""Intervals of a hospital's own cases: closed forms against scipy, statsmodels and the project's own bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from bus_mlops.consumer.local_statistics import Estimate, difference, roc_area, share_of, student
from bus_mlops.evaluation.intervals import bootstrap_interval
from bus_mlops.evaluation.metrics import classification_metrics


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 9, 30, 1000])
def test_student_is_scipys(degrees):
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-3)


def test_a_share_of_independent_images_has_wilsons_interval():
    values = np.repeat([1.0, 0.0], [870, 130])
    found = share_of(values, np.arange(1000).astype(str))
    wilson = stats.binomtest(870, 1000).proportion_ci(method="wilson")
    # Beside it, Student's t and G / (G - 1) of 1,000 cases.
    np.testing.assert_allclose([found.low, found.high], [wilson.low, wilson.high], atol=2e-4)


def test_images_of_one_case_that_agree_count_once():
    values, cases = np.repeat([1.0, 1, 1, 0], 25), np.repeat(np.arange(100), 1)
    once = share_of(values, cases.astype(str))
    tripled = share_of(np.repeat(values, 3), np.repeat(cases, 3).astype(str))
    np.testing.assert_allclose([once.low, once.high], [tripled.low, tripled.high], atol=1e-3)


@given(st.integers(1, 60), st.integers(1, 4), st.booleans())
def test_where_nothing_varies_the_interval_is_that_of_the_cases(count, images, called):
    found = share_of(np.full(count * images, float(called)), np.repeat(np.arange(count), images).astype(str))
    assert found.value == called
    assert 0 <= found.low < found.high <= 1
    assert found.high - found.low == pytest.approx(
        student(max(count - 1, 1)) ** 2 / (count + student(max(count - 1, 1)) ** 2)
    )


def clustered(seed: int, patients: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cases = np.repeat(np.arange(patients), 3)
    labels = (rng.random(patients) < 0.4).astype(np.int64)[cases]
    logits = 1.6 * labels + rng.normal(size=patients)[cases] + 0.5 * rng.normal(size=cases.size)
    return labels, 1 / (1 + np.exp(-logits)), cases.astype(str)


def test_the_area_is_ours_and_its_interval_that_of_the_clustered_bootstrap():
    labels, answers, cases = clustered(0)
    found = roc_area(labels, answers, cases)
    assert found.value == pytest.approx(classification_metrics(labels, answers)["roc_auc"])
    drawn = bootstrap_interval("roc_auc", labels, answers, cases)
    assert found.high - found.low == pytest.approx(drawn.high - drawn.low, rel=0.12)
    assert found.low == pytest.approx(drawn.low, abs=0.02)
    naive = roc_area(labels, answers, np.arange(labels.size).astype(str))
    assert found.high - found.low > 1.3 * (naive.high - naive.low)


def test_an_area_without_error_is_not_certain():
    labels = np.repeat([0, 1], [30, 12])
    found = roc_area(labels, labels * 0.9 + 0.05, np.arange(42).astype(str))
    assert (found.value, found.high) == (1, 1)
    assert 0.6 < found.low < 0.8
    assert roc_area(labels, 1 - labels * 0.9, np.arange(42).astype(str)).value == 0


def test_a_difference_is_newcombes():
    pairs = [(45, 60), (90, 100)]
    sides = [Estimate(k / n, *stats.binomtest(k, n).proportion_ci(method="wilson")) for k, n in pairs]
    found = difference(*sides)
    low, high = confint_proportions_2indep(*pairs[0], *pairs[1], compare="diff", method="newcomb")
    np.testing.assert_allclose([found.value, found.low, found.high], [-0.15, low, high], atol=1e-6)
