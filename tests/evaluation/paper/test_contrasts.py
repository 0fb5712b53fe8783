"""Differences over folds: against scipy, one fold, and Holm's adjustment by its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bus_mlops.evaluation.comparison import holm
from bus_mlops.evaluation.paper.contrasts import contrasts

RATIO = 0.25


def test_a_contrast_is_scipys_t_test_with_the_corrected_variance():
    values = np.array([0.04, 0.05, 0.02, 0.06, 0.03])
    (found,) = contrasts({"a": values}, RATIO)
    t = values.mean() / (values.std(ddof=1) * np.sqrt(1 / 5 + RATIO))
    assert found.p == pytest.approx(2 * stats.t.sf(t, 4))
    reach = stats.t.ppf(0.975, 4) * values.mean() / t
    assert (found.difference, found.low, found.high) == pytest.approx((0.04, 0.04 - reach, 0.04 + reach))
    (mirrored,) = contrasts({"a": -values}, RATIO)
    assert (mirrored.difference, mirrored.p) == pytest.approx((-0.04, found.p))


def test_one_fold_gives_a_difference_and_no_test():
    found = contrasts({"a": [0.1], "b": [-0.1]}, RATIO)
    assert [each.difference for each in found] == [0.1, -0.1]
    assert all(np.isnan([each.low, each.high, each.p, each.p_adjusted]).all() for each in found)


def test_no_difference_at_all_is_no_finding():
    (found,) = contrasts({"a": [0.0, 0.0, 0.0]}, RATIO)
    assert (found.difference, found.p) == (0, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_steps_reject(p_values):
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.3):
        # Step down from the smallest; stop at the first that exceeds alpha / (tests that are left).
        rejected = set()
        for step, i in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[i] * (len(p_values) - step) > alpha:
                break
            rejected.add(int(i))
        assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected


def test_holm_leaves_out_what_was_not_tested():
    assert holm([0.01, float("nan"), 0.03])[::2] == pytest.approx([0.02, 0.03])
    assert np.isnan(holm([0.01, float("nan")])[1])
