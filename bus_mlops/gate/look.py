"""What a look at given test data may spend of the budget of alpha of a registered name.

A look spends a fixed share of what is left, and one that promotes gives its level back. So the look that follows j
looks without a promotion has the level share (1 - share)^j alpha: as long as nothing was promoted wrongly, the j-th
look at a candidate that is no better has at most the j-th of these, however the looks depend on each other, and their
sum is at most alpha. `docs/explanation/a-sequence-of-promotions.md` has the whole argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Of alpha: a level below it finds nothing worth finding, so nothing is left. Five looks at the share 0.6.
SMALLEST = 0.01


@dataclass(frozen=True)
class Look:
    """One judgement on given test data.

    Attributes:
        number: The how manieth it is of this name on these images, from 1.
        budget: Alpha for the whole life of the name on them (`promotion.alpha`).
        before: What earlier looks have spent of it.
        level: What this one may spend: p must be lower. 0: nothing is left.
    """

    number: int
    budget: float
    before: float
    level: float

    @property
    def coming(self) -> str:
        """What it could spend, for people, while it is not taken."""
        left = max(0.0, self.budget - self.before)
        if not self.level:
            return f"nothing worth spending is left of alpha {self.budget:g}"
        return (
            f"{left:.2g} of alpha {self.budget:g} is left; the next look is number {self.number}, p < {self.level:.2g}"
        )

    @property
    def left(self) -> float:
        """Of the budget after this look, if it does not promote."""
        return max(0.0, self.budget - self.before - self.level)


@dataclass(frozen=True)
class PastLook:
    """What a look at the same test data has had, and whether its candidate became champion through the gate."""

    level: float
    promoted: bool = False


def next_look(history: Iterable[PastLook], alpha: float, share: float) -> Look:
    """The look that follows earlier ones on the same test data.

    Args:
        history: The earlier looks; their order does not matter.
        alpha: The budget now. Where it was another one before, what was spent stays spent.
        share: Of what is left, spent by this look (0-1).
    """
    past = list(history)
    before = sum(each.level for each in past if not each.promoted)
    level = share * max(0.0, alpha - before)
    return Look(len(past) + 1, alpha, before, level if level >= SMALLEST * alpha else 0.0)
