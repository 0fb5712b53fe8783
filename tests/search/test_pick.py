"""Which trial is chosen under constraints and from a front, and when more trials would be idle."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from recorded_trials import called_right

from bus_mlops.config.searches import Search
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.search.pick import Pick, pareto_front, pick
from bus_mlops.search.stopping import expected_best, expected_gain

BOTH = ("sensitivity", "specificity")


def trial(number: int, *values: float, **constraints: float) -> TrialRecord:
    return TrialRecord(
        network="n", fold=1, number=number, parameters={}, state="complete", values=values, constraints=constraints
    )


def picked(trials: Sequence[TrialRecord], **settings: Any) -> Pick:
    space = {"dropout": [0.1, 0.2]}
    search = Search.model_validate({"network": "n", "strategy": "losses", "space": space, **settings})
    validation = {each.number: [called_right(round(80 * each.values[-1]))] for each in trials}
    return pick(trials, validation, search)


def on_both(*pairs: tuple[float, float]) -> list[TrialRecord]:
    return [trial(number, *pair, sensitivity=pair[0]) for number, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("pairs", "number", "reason"),
    [
        # highest specificity with a sensitivity of at least .9
        ([(0.95, 0.5), (0.92, 0.8), (0.9, 0.9), (0.8, 0.99)], 2, "of 3 on the front, judged by Specificity"),
        # the first stays where the last objective is not better by more than the noise
        ([(0.95, 0.85), (0.92, 0.8), (0.91, 0.8625)], 0, "not more than"),
        # and even where another beats it in the objective that does not judge
        ([(0.92, 0.85), (0.95, 0.85)], 0, "which no other beats"),
        # a first trial that misses the constraint has no such right
        ([(0.85, 0.99), (0.91, 0.6), (0.93, 0.6125)], 2, "the first trial misses the constraint sensitivity 0.9"),
        # none meets it
        ([(0.5, 0.9), (0.85, 0.5), (0.85, 0.7), (0.8, 0.9)], 1, "misses it least (sensitivity 0.850)"),
    ],
)
def test_one_of_a_front_is_chosen_by_the_last_objective(pairs, number, reason):
    result = picked(on_both(*pairs), objective=BOTH, constraint={"sensitivity": 0.9})
    assert result.number == number
    assert reason in result.reason


def test_a_constraint_on_what_is_better_if_less_is_the_most():
    trials = [trial(0, 0.7, brier=0.3), trial(1, 0.9, brier=0.2), trial(2, 0.95, brier=0.25)]
    assert picked(trials, objective="roc_auc", constraint={"brier": 0.2}).number == 1


def test_where_the_first_failed_the_best_of_the_others_is_chosen():
    result = picked([trial(1, 0.7), trial(2, 0.7125)], objective="roc_auc")
    assert (result.number, result.first_value) == (2, 0.7)
    assert "the first trial failed" in result.reason


def test_nothing_complete_is_an_error():
    with pytest.raises(EvaluationError, match="no trial of the study is complete"):
        picked([], objective="roc_auc")


def test_a_front_holds_equal_trials_and_follows_directions():
    trials = [trial(0, 0.5, 0.5), trial(1, 0.5, 0.5), trial(2, 0.6, 0.4), trial(3, 0.4, 0.4), trial(4, 0.4, 0.7)]
    assert [each.number for each in pareto_front(trials, [1, 1])] == [0, 1, 2, 4]
    assert [each.number for each in pareto_front(trials, [1, -1])] == [2]


def test_the_expected_gain_is_that_of_more_draws():
    """Trials that come in any order: what ten more gain after twenty is less than what is said, and not much less."""
    chance = random.Random(1)
    said, gained = [], []
    for _ in range(2000):
        values = [chance.gauss(0, 1) for _ in range(30)]
        said.append(expected_gain(values[:20], 10))
        gained.append(max(values) - max(values[:20]))
    assert statistics.fmean(gained) < statistics.fmean(said) < 2 * statistics.fmean(gained)
    assert expected_best([3.0, 1.0, 2.0], 3) == 3.0
    assert expected_best([3.0, 1.0, 2.0], 1) == 2.0
    assert expected_gain([0.5] * 12, 30) == 0.0
