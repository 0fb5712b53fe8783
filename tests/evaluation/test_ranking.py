"""Average precision and rates at a fixed other rate, resample by resample against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from bus_mlops.evaluation.ranking import average_precision, sensitivity_at_specificity, specificity_at_sensitivity
from bus_mlops.evaluation.resampling import GroupWeights, group_weights

FUNCTIONS = (average_precision, sensitivity_at_specificity, specificity_at_sensitivity)


def height_at_ten_percent(labels: np.ndarray, scores: np.ndarray) -> float:
    """The highest point of scikit-learn's ROC curve, in straight lines, where one benign image in ten is called."""
    wrong, right, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    last = np.flatnonzero(wrong <= 0.1 + 1e-9)[-1]
    share = (0.1 - wrong[last]) / (wrong[last + 1] - wrong[last])
    return float(right[last] + share * (right[last + 1] - right[last]))


# Few different scores: ties within a class and across classes.
cases = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.9, 1.0])), max_size=40)


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(0, 9))
def test_each_resample_equals_scikit_learn_on_the_repeated_images(drawn, seed):
    labels, scores = np.array([(0, 0.4), (1, 0.6), *drawn]).T
    weights = group_weights(np.arange(labels.size) // 2 if labels.size > 2 else [0, 1], 8, seed)
    ours = [
        f(labels, scores, weights) for f in (average_precision, sensitivity_at_specificity, specificity_at_sensitivity)
    ]
    for number, rows in enumerate(weights.images()):
        y, p = labels[rows], scores[rows]
        if np.ptp(y) == 0:
            assert np.isnan([each[number] for each in ours]).all()
        else:
            expected = (
                reference.average_precision_score(y, p),
                height_at_ten_percent(y, p),
                height_at_ten_percent(1 - y, -p),
            )
            assert [each[number] for each in ours] == pytest.approx(expected, abs=1e-5)


def test_a_row_of_one_class_has_none_of_them():
    one = np.ones(4, int), np.linspace(0, 1, 4), GroupWeights.identity(4)
    for function in FUNCTIONS:
        assert np.isnan(function(*one)).all()
