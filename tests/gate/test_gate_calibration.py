"""Calibration: Platt scaling against scikit-learn's logistic regression, and the error it is judged by."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from bus_mlops.consumer.package_format import Calibration
from bus_mlops.evaluation.resampling import group_weights
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.gate.calibration_error import calibration_curve as calibration_curve_of
from bus_mlops.gate.calibration_error import calibration_difference, calibration_error, expected_error


def sample(seed: int, size: int = 400, slope: float = 2.0, offset: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose logits are `slope` times too large and `offset` too high."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, size)
    labels = (rng.random(size) < 1 / (1 + np.exp(-logits))).astype(int)
    return labels, 1 / (1 + np.exp(-(slope * logits + offset)))


def test_it_is_scikit_learns_logistic_regression_on_smoothed_labels():
    labels, probabilities = sample(0)
    found = fit_calibration(labels, probabilities)
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    logits = np.log(probabilities / (1 - probabilities))[:, None]
    # A smoothed label is a malignant and a benign image with weights.
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.vstack([logits, logits]), np.repeat([1, 0], labels.size), np.concatenate([targets, 1 - targets])
    )
    assert found.slope == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert found.intercept == pytest.approx(reference.intercept_[0], abs=1e-4)
    assert found.slope == pytest.approx(0.5, abs=0.1)


def test_calibrated_probabilities_are_better_calibrated_on_new_images():
    labels, probabilities = sample(1, 2000)
    new_labels, new = sample(2, 2000)
    calibrated = fit_calibration(labels, probabilities).apply(new)
    assert calibration_error(new_labels, calibrated) < 0.3 * calibration_error(new_labels, new)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_order_is_kept_and_every_answer_is_a_probability(data):
    size = data.draw(st.integers(2, 40))
    labels = np.array([0, 1, *data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))])
    unit = st.floats(0, 1, width=32)
    probabilities = np.array(data.draw(st.lists(unit, min_size=size + 2, max_size=size + 2)))
    calibration = fit_calibration(labels, probabilities)
    calibrated = calibration.apply(probabilities)
    assert calibration.slope > 0
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated[np.argsort(probabilities)]) >= -1e-12).all()
    assert [calibration(p) for p in probabilities] == pytest.approx(calibrated.tolist(), abs=1e-9)


def test_separable_labels_and_a_network_worse_than_chance_have_an_answer():
    separable = fit_calibration([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert 0 < separable.slope < 100
    turned = fit_calibration([1, 1, 0, 0, 0], [0.1, 0.2, 0.8, 0.9, 0.9])
    assert turned.slope == 1
    assert turned.intercept < 0
    assert Calibration().apply([0.0, 1.0]).tolist() == [0.0, 1.0]


def test_of_a_network_that_is_sure_and_often_wrong_the_likeliest_answer_is_found():
    """A whole step of Newton's method leads far away there; at the maximum, answers sum up to the smoothed labels."""
    labels = np.array([0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0])
    sure = 1 - np.array(
        [1.85e-6, 0.09502683, 0, 0.0320165, 1.16e-6, 0, 1.1e-7, 0, 2.82e-6, 0.0418924, 0, 3.5e-7, 2.023e-5]
    )
    targets = np.where(labels == 1, 8 / 9, 1 / 8)
    found = fit_calibration(labels, sure)
    assert found.slope == 1
    assert found.apply(sure).sum() == pytest.approx(targets.sum(), abs=1e-6)


def test_the_error_is_that_of_equally_filled_bins():
    labels, probabilities = sample(3, 1000)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    assert calibration_error(labels, probabilities) == pytest.approx(np.abs(observed - predicted).mean(), abs=1e-9)


def test_the_difference_is_paired_and_by_groups():
    labels, probabilities = sample(4, 600)
    calibrated = fit_calibration(labels, probabilities).apply(probabilities)
    groups = np.arange(600) // 3
    weights = group_weights(groups, 300, seed=0)
    interval = calibration_difference(labels, calibrated, probabilities, weights, excess=0.01)
    expected = calibration_error(labels, calibrated) - calibration_error(labels, probabilities) - 0.01
    assert interval.estimate == pytest.approx(expected)
    assert interval.low < interval.estimate < interval.high < 0
    same = calibration_difference(labels, calibrated, calibrated, weights, excess=0.0)
    assert (same.low, same.estimate, same.high) == (0, 0, 0)


def test_what_small_samples_explain_is_the_error_of_true_probabilities():
    """Perfect models of 220 images are charged with about .067; one that drifts keeps its excess."""
    rng = np.random.default_rng(5)
    p = rng.beta(0.6, 0.9, 220)
    errors = [calibration_error(rng.random(220) < p, p) for _ in range(300)]
    expected = expected_error(p, np.arange(220))
    assert expected == pytest.approx(np.mean(errors), abs=0.002)
    assert 0.03 < expected < 0.08
    copies, apart = np.repeat(p[:55], 4), np.arange(220)
    assert expected_error(copies, apart // 4) > 1.5 * expected_error(copies, apart)  # right or wrong together
    assert expected_error(p, np.arange(220)) == expected


def test_slope_and_intercept_are_those_of_a_logistic_regression():
    labels, probabilities = sample(6, 800)
    x = np.log(probabilities / (1 - probabilities))
    reference = sm.Logit(labels, sm.add_constant(x)).fit(disp=0).params
    assert calibration_curve_of(labels, probabilities) == pytest.approx((reference[1], reference[0]), abs=1e-5)
    assert all(np.isnan(calibration_curve_of([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])))
    assert all(np.isnan(calibration_curve_of([0, 1, 1], [0.4, 0.4, 0.4])))
