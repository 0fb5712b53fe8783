"""What a few local cases fit: draws of whole cases, and fits that are right where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from bus_mlops.consumer.package_format import sigmoid
from bus_mlops.consumer.recalibration import (
    FEWEST_DRAWN,
    FEWEST_LEFT,
    LEAST_SLOPE,
    draws_of,
    fit_platt,
    fit_temperature,
    fit_threshold,
    refits,
    too_few,
)
from bus_mlops.errors import EvaluationError


def place(patients: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, answers and cases of patients with one to three images, whose logits are shifted."""
    rng = np.random.default_rng(seed)
    member = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    label = (np.arange(patients) % 3 == 0).astype(np.int64)[member]
    own = rng.normal(size=patients)[member]
    logits = shift + 3 * label - 1.5 + own + 0.5 * rng.normal(size=member.size)
    return label, sigmoid(logits), member.astype(str)


def test_platt_and_temperature_are_those_of_a_general_optimiser():
    labels, answers, _ = place(60, shift=1.0)
    logits = np.log(answers / (1 - answers))
    count, positives = labels.size, labels.sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (count - positives + 2))

    def loss(slope: float, intercept: float) -> float:
        scores = slope * logits + intercept
        return float(-np.sum(targets * scores - np.logaddexp(0, scores)))

    platt, temperature = fit_platt(labels, answers), fit_temperature(labels, answers)
    both = minimize(lambda x: loss(*x), [1.0, 0.0], tol=1e-10).x
    one = minimize(lambda x: loss(x[0], 0.0), [1.0], tol=1e-10).x
    np.testing.assert_allclose([platt.slope, platt.intercept], both, atol=1e-4)
    np.testing.assert_allclose([temperature.slope, temperature.intercept], [one[0], 0], atol=1e-4)


def test_answers_that_rank_the_wrong_way_are_not_turned_round():
    labels, answers = np.array([0, 1] * 20), np.array([0.8, 0.2] * 20)
    assert fit_platt(labels, answers).slope == 1
    assert fit_temperature(labels, answers).slope == LEAST_SLOPE


def test_the_temperature_of_answers_that_say_nothing_has_an_end_inside_its_interval():
    rng = np.random.default_rng(0)
    labels, answers = np.arange(400) % 4 == 0, sigmoid(rng.normal(1, 1, 400))  # three of four too sure of the wrong one
    drawn = [rng.integers(0, 400, 400) for _ in range(100)]
    found = [1 / fit_temperature(labels[each].astype(int), answers[each]).slope for each in drawn]
    assert max(found) <= 1 / LEAST_SLOPE
    low, high = np.quantile(found, (0.025, 0.975))
    assert low <= 1 / fit_temperature(labels.astype(int), answers).slope <= high


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.999)), min_size=2, max_size=40), st.floats(0.2, 1))
def test_no_threshold_comes_nearer_to_the_claims(images, claimed):
    labels = np.array([label for label, _ in images], np.int64)
    answers = np.array([answer for _, answer in images])
    if len(set(labels)) < 2:
        return

    def worse(cut: float) -> float:
        called = answers >= cut
        return float(min(called[labels == 1].mean() - claimed, 1 - called[labels == 0].mean() - 0.8))

    scores = np.unique(answers)
    every = [0.0, 1.0, *((scores[1:] + scores[:-1]) / 2), *scores]
    assert worse(fit_threshold(labels, answers, (claimed, 0.8))) >= max(map(worse, every)) - 1e-9


def test_draws_take_whole_cases_in_the_shares_of_all():
    labels, answers, cases = place(60)
    drawn = list(draws_of(labels, answers, cases, 12, draws=30))
    assert len(drawn) == 30
    for draw in drawn:
        inside = set(cases[~draw.rest])
        assert not inside & set(cases[draw.rest])
        assert len(inside) == 12
        assert len({case for case in inside if labels[cases == case].max()}) == 4  # a third of them is malignant
    assert len({tuple(draw.rest) for draw in drawn}) > 25
    again = list(draws_of(labels, answers, cases, 12, draws=30))
    assert [draw.fit for draw in again] == [draw.fit for draw in drawn]


@pytest.mark.parametrize(("patients", "count"), [(60, 3), (60, 56), (12, 4), (60, 500)])
def test_draws_that_leave_too_little_say_why(patients, count):
    labels, answers, cases = place(patients)
    why = too_few(labels, cases, count)
    assert f"{FEWEST_LEFT} or more must be left" in why
    with pytest.raises(EvaluationError, match=f"{count} local cases cannot be drawn"):
        next(draws_of(labels, answers, cases, count))


@given(st.integers(10, 60), st.integers(4, 70))
def test_whatever_can_be_drawn_has_both_labels_on_both_sides(patients, count):
    labels, answers, cases = place(patients)
    if too_few(labels, cases, count):
        return
    for draw in draws_of(labels, answers, cases, count, draws=2):
        for side in (draw.rest, ~draw.rest):
            for label in (0, 1):
                of_label = {case for case in cases[side] if labels[cases == case].max() == label}
                assert len(of_label) >= FEWEST_DRAWN


def test_refits_are_the_less_sure_the_fewer_cases():
    spread = [np.std([fit.threshold for fit in refits(*place(count), (0.0, 0.0))]) for count in (20, 300)]
    assert spread[0] > 2 * spread[1]
