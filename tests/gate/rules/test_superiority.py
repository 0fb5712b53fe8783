"""G2's statistics: Holm against a definition, the Bayesian posterior against the t-test and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bus_mlops.evaluation.comparison import corrected_resampled_test, holm
from bus_mlops.gate.rules.superiority import correlated_posterior


def rejected(p_values: list[float], alpha: float) -> set[int]:
    """Holm's procedure as he states it: step down until a p value is too large."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found: set[int] = set()
    for rank, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - rank):
            break
        found.add(i)
    return found


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=6), st.sampled_from([0.01, 0.05, 0.2]))
def test_an_adjusted_p_value_is_below_alpha_where_holm_rejects(p_values, alpha):
    adjusted = holm(p_values)
    close = [abs(a - alpha) < 1e-12 for a in adjusted]
    if not any(close):
        assert {i for i, a in enumerate(adjusted) if a < alpha} == rejected(p_values, alpha)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))


@given(st.integers(0, 10_000), st.integers(2, 15))
def test_the_posterior_says_one_minus_p(seed, pairs):
    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(0.9, 0.02, pairs), rng.normal(0.89, 0.02, pairs)
    posterior = correlated_posterior(ours, theirs, 0.25)
    test = corrected_resampled_test(ours, theirs, 0.25)
    assert posterior.better == pytest.approx(1 - test.p_one_sided, abs=1e-9)
    assert posterior.mean == pytest.approx((ours - theirs).mean())


def test_the_posterior_is_the_t_distribution_of_the_paper():
    ours, theirs = [0.82, 0.84, 0.83, 0.86, 0.85], [0.80, 0.82, 0.84, 0.82, 0.83]
    differences = np.subtract(ours, theirs)
    rho = 1 / 5  # a fold of five
    scale = np.sqrt((1 / 5 + rho / (1 - rho)) * differences.var(ddof=1))
    expected = stats.t(df=4, loc=differences.mean(), scale=scale)
    posterior = correlated_posterior(ours, theirs, test_to_train=1 / 4)
    assert posterior.scale == pytest.approx(scale)
    assert posterior.better == pytest.approx(1 - expected.cdf(0))


def test_equal_differences_are_certain_or_even():
    assert correlated_posterior([0.8, 0.8], [0.7, 0.7], 0.25).better == 1
    assert correlated_posterior([0.7, 0.7], [0.7, 0.7], 0.25).better == 0.5
    assert correlated_posterior([0.7, 0.7], [0.8, 0.8], 0.25).better == 0
