"""What a look at given test data may spend of the budget of alpha of a registered name."""

from __future__ import annotations

from dataclasses import dataclass


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
    def left(self) -> float:
        """Of the budget after this look, if it does not promote."""
        return max(0.0, self.budget - self.before - self.level)
