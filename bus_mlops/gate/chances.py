"""What a rule could have seen: the probability that it passes a model of which the truth is known, in words."""

from __future__ import annotations

import math

from bus_mlops.evaluation.clustered_test import chance_to_find
from bus_mlops.evaluation.intervals import unseen_share

# One-sided, of the bounds of a 95 % interval.
TAIL = 0.025


def in_percent(chance: float) -> str:
    """A probability (0-1) for a sentence; never a certainty that nobody has.

    >>> in_percent(0.184), in_percent(0.9996), in_percent(0.0002)
    ('18 %', 'over 99 %', 'under 1 %')
    """
    if chance > 0.99:
        return "over 99 %"
    return "under 1 %" if chance < 0.01 else f"{100 * chance:.0f} %"


def chance_of_an_equal(margin: float, standard_error: float, degrees_of_freedom: float = math.inf) -> float:
    """The probability (0-1) that the 95 % interval of a model that equals the baseline stays within a margin.

    >>> round(chance_of_an_equal(0.05, 0.02), 2)
    0.71
    """
    return chance_to_find(margin, standard_error, degrees_of_freedom, TAIL)


def chance_over_floor(rate: float, floor: float, images: float) -> float:
    """The probability (0-1) that the lower 95 % bound of a rate reaches a floor.

    Of independent images, so many, each right with the true rate; the bound is the bootstrap's, a binomial quantile,
    and Wilson's where all are right.

    Args:
        rate: The true one (0-1).
        floor: That the bound must reach (0-1).
        images: Of the class; where they hang together, as many independent ones as they are worth.

    Example:
        >>> round(chance_over_floor(0.904, 0.8, 210), 2), round(chance_over_floor(0.904, 0.87, 210), 2)
        (0.99, 0.36)
    """
    import numpy as np
    from scipy import stats

    count = max(1, round(images))
    right = np.arange(count + 1)
    bounds = stats.binom.ppf(TAIL, count, right / count) / count
    bounds[-1] = 1 - unseen_share(count)
    return float(stats.binom.pmf(right, count, rate) @ (bounds >= floor))
