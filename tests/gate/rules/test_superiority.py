"""G2's statistics: Holm against a definition, and the t-test against the Bayesian posterior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from bus_mlops.evaluation.comparison import corrected_resampled_test, holm


def rejected(p_values: list[float], alpha: float) -> set[int]:
    """Holm's procedure as he states it: step down until a p value is too large."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found: set[int] = set()
    for rank, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - rank):
            break
        found.add(i)
    return found


# Between alpha over their number and alpha a p value is rejected only if all smaller ones are: draw many there.
@given(
    st.lists(st.floats(1e-6, 1) | st.floats(0.005, 0.06), min_size=1, max_size=6), st.sampled_from([0.01, 0.05, 0.2])
)
@example([0.03, 0.03], 0.05)
def test_an_adjusted_p_value_is_below_alpha_where_holm_rejects(p_values, alpha):
    adjusted = holm(p_values)
    close = [abs(a - alpha) < 1e-12 for a in adjusted]
    if not any(close):
        assert {i for i, a in enumerate(adjusted) if a < alpha} == rejected(p_values, alpha)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))


@given(st.integers(0, 10_000), st.integers(2, 15))
def test_one_minus_p_is_the_posterior_of_the_bayesian_test(seed, pairs):
    """Corani and Benavoli's eq. 11: Student's t around the mean difference, for folds of which one in five tests."""
    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(0.9, 0.02, pairs), rng.normal(0.89, 0.02, pairs)
    differences, rho = ours - theirs, 1 / 5
    scale = np.sqrt((1 / pairs + rho / (1 - rho)) * differences.var(ddof=1))
    posterior = stats.t(df=pairs - 1, loc=differences.mean(), scale=scale)
    test = corrected_resampled_test(ours, theirs, test_to_train=1 / 4)
    assert 1 - test.p_one_sided == pytest.approx(1 - posterior.cdf(0), abs=1e-9)
    assert test.difference == pytest.approx(differences.mean())


def test_equal_differences_are_certain_or_even():
    p_values = [corrected_resampled_test([a, a], [0.7, 0.7], 0.25).p_one_sided for a in (0.8, 0.7, 0.6)]
    assert p_values == [0, 0.5, 1]
