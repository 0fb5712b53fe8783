"""Calibration: slope and intercept against statsmodels, errors against a plain loop, excess against perfect models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from bus_mlops.evaluation.calibration import (
    calibration_error,
    calibration_excess,
    calibration_intercept,
    calibration_slope,
)
from bus_mlops.evaluation.resampling import GroupWeights, group_weights
from bus_mlops.gate.calibration_error import calibration_curve

sm = pytest.importorskip("statsmodels.api", reason="a reference that only tests need")


def sample(images: int, intercept: float = 0.4, slope: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=images)
    return (rng.random(images) < special.expit(intercept + slope * logits)).astype(int), special.expit(logits)


def of_all(function, labels, probabilities) -> float:
    return float(function(labels, probabilities, GroupWeights.identity(len(labels)))[0])


def test_slope_and_intercept_are_those_of_statsmodels_where_images_are_many():
    labels, probabilities = sample(4000)
    logits = special.logit(probabilities)
    slope = sm.Logit(labels, sm.add_constant(logits)).fit(disp=0).params[1]
    offset = sm.GLM(labels, np.ones(4000), family=sm.families.Binomial(), offset=logits).fit().params[0]
    assert of_all(calibration_slope, labels, probabilities) == pytest.approx(slope, abs=2e-3)
    assert of_all(calibration_intercept, labels, probabilities) == pytest.approx(offset, abs=2e-3)


def test_the_slope_maximises_the_penalised_likelihood_of_few_images():
    labels, probabilities = sample(40)
    model = sm.Logit(labels, sm.add_constant(special.logit(probabilities)))
    penalised = optimize.minimize(
        lambda fit: -model.loglike(fit) - np.linalg.slogdet(-model.hessian(fit))[1] / 2, [0, 1], tol=1e-10
    )
    assert of_all(calibration_slope, labels, probabilities) == pytest.approx(penalised.x[1], abs=1e-4)


def test_a_resample_is_near_the_fit_to_its_images():
    labels, probabilities = sample(1500)
    weights = group_weights(np.arange(1500) // 2, 10, seed=1)
    for function in (calibration_slope, calibration_intercept):
        fitted = [of_all(function, labels[rows], probabilities[rows]) for rows in weights.images()]
        assert function(labels, probabilities, weights) == pytest.approx(fitted, abs=0.01)


@pytest.mark.parametrize("scores", [[0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.5] * 4, [1, 1, 0, 0]])
def test_classes_that_are_apart_and_scores_that_say_nothing_have_finite_errors(scores):
    labels, probabilities = np.array([0, 0, 1, 1]), np.array(scores, dtype=float)
    for function in (calibration_intercept, calibration_error, calibration_excess):
        assert np.isfinite(of_all(function, labels, probabilities))
    assert np.isfinite(of_all(calibration_slope, labels, probabilities)) == (len(set(scores)) > 1)


@pytest.mark.parametrize("spread", [0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1])
def test_scores_that_hardly_differ_have_no_slope(spread):
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.arange(107) % 2)
    probabilities = (0.4242513 + spread * rng.normal(size=107)).astype(np.float32)
    weights = group_weights(np.arange(107) // 2, 50, seed=3)
    assert np.isfinite(calibration_intercept(labels, probabilities, weights)).all()
    slopes = calibration_slope(labels, probabilities, weights)
    # A hundred images tell a slope to .2 / spread of the logits, which is four times that of these probabilities.
    assert np.isfinite(slopes).all() if spread > 0.02 else np.isnan(slopes).all()
    assert np.isnan(calibration_curve(labels, probabilities)).all() == (spread <= 0.02)


def test_the_error_of_each_resample_is_that_of_a_plain_loop():
    labels, probabilities = sample(120)
    weights = group_weights(np.arange(120) // 3, 5, seed=2)
    edges = np.quantile(probabilities, np.linspace(0, 1, 11)[1:-1])
    for found, rows in zip(calibration_error(labels, probabilities, weights), weights.images(), strict=True):
        bins = np.searchsorted(edges, probabilities[rows])
        gaps = [abs((probabilities[rows] - labels[rows])[bins == each].sum()) for each in range(10)]
        assert found == pytest.approx(sum(gaps) / len(rows), rel=1e-5)


@pytest.mark.parametrize("images", [70, 220, 1200])
def test_a_perfect_model_has_an_error_but_no_excess(images):
    drawn = [sample(images, intercept=0, slope=1, seed=seed) for seed in range(150)]
    error, excess = (np.mean([of_all(f, *each) for each in drawn]) for f in (calibration_error, calibration_excess))
    assert error > 0.5 / np.sqrt(images)
    assert abs(excess) < 0.1 * error
