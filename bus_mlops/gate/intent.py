"""Whether a candidate is judged on the terms that stood when its first run began: values that rules are given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Intended:
    """The terms of a candidate's first run against those that it is judged on.

    Attributes:
        first: The sha256 of the statement that its first run was begun with; "" where none of its runs has one.
        changes: A clause for each term that was changed since, with both values.
        damages: What of the statements was edited; no amendment mends that.
        amended: The reason that the changes were amended with; "" if they were not.
    """

    first: str = ""
    changes: tuple[str, ...] = ()
    damages: tuple[str, ...] = ()
    amended: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the candidate may not be judged on these terms."""
        if not self.changes or self.amended:
            return self.damages
        return (
            *self.damages,
            f"terms were changed after the candidate's first run had begun: {'; '.join(self.changes)}. Put them back, "
            "train it anew, or let the record say why: `bus-mlops promote --amend REASON` (`dvc repro` cannot)",
        )

    @property
    def clause(self) -> str:
        """What the report says where nothing is wrong."""
        if self.changes:
            return f"amended since its first run began ({'; '.join(self.changes)}): {self.amended}"
        return "on the terms of its first run" if self.first else ""
