"""The budget of alpha: what each look may spend, and that a long sequence of looks keeps within it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bus_mlops.gate.look import SMALLEST, PastLook, next_look

ALPHA, SHARE = 0.05, 0.6


def levels(promoted: list[bool]) -> list[float]:
    """The levels of looks that come to these ends."""
    past: list[PastLook] = []
    for each in promoted:
        past.append(PastLook(next_look(past, ALPHA, SHARE).level, each))
    return [each.level for each in past]


def test_each_look_spends_a_share_of_what_is_left_until_nothing_worth_spending_is():
    spent = levels([False] * 8)
    assert spent[:5] == pytest.approx([0.03, 0.012, 0.0048, 0.00192, 0.000768])
    assert spent[5:] == [0, 0, 0]
    assert sum(spent) < ALPHA
    look = next_look([PastLook(0.03), PastLook(0.012)], ALPHA, SHARE)
    assert (look.number, look.budget) == (3, ALPHA)
    assert look.before == pytest.approx(0.042)
    assert look.left == pytest.approx(0.0032)


def test_a_look_that_promotes_gives_its_level_back():
    assert levels([True, True, False, True, False]) == pytest.approx([0.03, 0.03, 0.03, 0.012, 0.012])


def test_another_alpha_leaves_what_was_spent_spent():
    past = [PastLook(level) for level in levels([False] * 3)]
    spent = 0.0468
    assert next_look(past, 0.2, SHARE).level == pytest.approx(SHARE * (0.2 - spent))
    lower = next_look(past, 0.04, SHARE)
    assert lower.level == lower.left == 0
    assert next_look([], 0.04, SMALLEST / 2).level == 0


def test_a_level_depends_on_nothing_but_how_many_looks_did_not_promote():
    table, rng = levels([False] * 9), np.random.default_rng(0)
    for _ in range(50):
        ends = [bool(each) for each in rng.integers(0, 2, 9)]
        assert levels(ends) == pytest.approx([table[ends[:i].count(False)] for i in range(9)])


def promotions(z: np.ndarray) -> np.ndarray:
    """Which looks of each sequence promote: z is (sequences, looks), the evidence of each as a normal deviate."""
    table = np.array(levels([False] * (z.shape[1] + 1)))
    spent, found = np.zeros(len(z), dtype=int), np.zeros(z.shape, dtype=bool)
    for look, p in enumerate(norm.sf(z).T):
        found[:, look] = p < table[spent]
        spent += ~found[:, look]
    return found


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, -0.05])
def test_of_sequences_of_twenty_looks_at_equal_models_few_ever_promote(correlation):
    """Whatever the dependence; also where true gains among them give levels back."""
    rng, sequences, looks = np.random.default_rng(1), 20_000, 20
    covariance = np.full((looks, looks), correlation) + (1 - correlation) * np.eye(looks)
    z = rng.multivariate_normal(np.zeros(looks), covariance, size=sequences)
    allowed = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / sequences)
    assert promotions(z).any(axis=1).mean() <= allowed
    gains = np.arange(looks) % 3 == 0
    found = promotions(z + 6 * gains)
    assert found[:, [0, 3]].mean() > 0.99
    assert found[:, ~gains].any(axis=1).mean() <= allowed


def test_the_bound_holds_where_looks_exclude_each_other():
    """The worst dependence: each p of an equal model is small where no other is, so that the levels add up."""
    rng, sequences, looks = np.random.default_rng(2), 20_000, 6
    uniform = rng.random((sequences, 1))
    starts = np.concatenate([[0.0], np.cumsum(levels([False] * looks))[:-1]])
    p = (uniform - starts) % 1.0
    share = promotions(norm.isf(p)).any(axis=1).mean()
    assert share == pytest.approx(sum(levels([False] * looks)), abs=3 * np.sqrt(0.05 * 0.95 / sequences))


def test_a_first_look_keeps_most_of_the_power():
    """Of a gain that the whole alpha would find in two of three."""
    gain = norm.isf(ALPHA) + norm.ppf(2 / 3)
    power = {share: norm.sf(norm.isf(share * ALPHA) - gain) for share in (0.5, 0.6, 0.7)}
    assert power[0.6] > 0.85 * 2 / 3
    found = promotions(np.random.default_rng(3).normal(gain, 1, (4000, 1)))
    assert found.mean() == pytest.approx(power[SHARE], abs=0.03)
