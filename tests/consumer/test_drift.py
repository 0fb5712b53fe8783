"""Drift: an index beside what it is without any, and a bet that keeps its chance of a false alarm however one looks."""

from __future__ import annotations

import numpy as np
import pytest

from bus_mlops.consumer.drift import bet, compare, index_of, stability
from bus_mlops.consumer.drift_picture import picture
from bus_mlops.consumer.package_format import ScoreBins


def drawn(rng: np.random.Generator, count: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    malignant = rng.random(count) < 0.4
    logits = np.where(malignant, 1.5, -2.0) + rng.normal(0, 1.5, count)
    return 1 / (1 + np.exp(-(scale * logits + shift)))


def test_the_index_is_that_of_the_field():
    here, there = np.array([30, 50, 20]), np.array([10, 60, 30])
    a, b = (here + 0.5) / (here + 0.5).sum(), (there + 0.5) / (there + 0.5).sum()
    relative = sum(x * np.log(x / y) for x, y in zip(a, b, strict=True))
    assert index_of(here, there) == pytest.approx(relative + sum(y * np.log(y / x) for x, y in zip(a, b, strict=True)))
    assert index_of(here, here) == 0


def test_without_drift_the_index_is_what_its_sizes_make_it():
    """For many answers (bins - 1) (1 / n + 1 / m), as twice a likelihood ratio is chi-squared."""
    found = stability(np.full(10, 200), np.full(10, 60))
    assert found.expected == pytest.approx(9 * (1 / 2000 + 1 / 600), rel=0.1)
    assert found.index == 0
    assert found.usual > found.expected
    assert stability(np.full(10, 5), np.full(10, 60)).expected > 0.15  # above the .1 that is said to mean a shift


def test_false_alarms_are_as_rare_as_promised_when_one_looks_after_every_answer():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        reference = ScoreBins.of(drawn(rng, 60))  # few: what is not known of the reference counts, too
        alarms += compare(drawn(rng, 150), reference, alpha=0.1).noticed is not None
    assert alarms <= 17  # of 100 at 0.1: more with a chance of .01


@pytest.mark.parametrize("change", [{"shift": 1.5}, {"shift": -1.5}, {"scale": 2.0}, {"scale": 0.4}])
def test_changes_are_noticed_soon_also_late_in_a_long_log(change):
    rng = np.random.default_rng(1)
    reference = ScoreBins.of(drawn(rng, 600))
    found = compare(np.r_[drawn(rng, 500), drawn(rng, 400, **change)], reference)
    assert found.noticed is not None
    assert 500 < found.noticed < 750
    assert found.stability is not None
    assert found.stability.index > found.stability.usual


def test_the_bet_is_fair():
    """On average over all orders of what is exchangeable it gains nothing."""
    rng = np.random.default_rng(2)
    ends = [bet(rng.integers(0, 4, 12), np.bincount(rng.integers(0, 4, 12), minlength=4))[-1] for _ in range(3000)]
    assert np.mean(ends) == pytest.approx(1, abs=3 * np.std(ends) / np.sqrt(len(ends)))


def test_no_answers_and_one_bin_are_no_errors():
    empty = compare([], ScoreBins.of([0.2, 0.8]))
    assert (empty.noticed, empty.stability) == (None, None)
    same = compare([0.5] * 50, ScoreBins.of([0.5] * 30))
    assert same.noticed is None
    for found in (empty, same):
        assert picture(found, ScoreBins.of([0.5] * 30) if found.counted else ScoreBins.of([0.2, 0.8])).endswith(
            "</svg>\n"
        )


def test_bins_hold_all_and_are_checked():
    scores = np.random.default_rng(3).random(500)
    bins = ScoreBins.of(scores)
    assert sum(bins.counts) == 500
    assert max(bins.counts) - min(bins.counts) <= 3
    assert np.bincount(bins.place(scores)).tolist() == list(bins.counts)
    for edges, counts in (((0.5,), (1,)), ((0.5, 0.4), (1, 1, 1)), ((2.0,), (1, 1))):
        with pytest.raises(ValueError, match="ScoreBins"):
            ScoreBins(edges=edges, counts=counts)
