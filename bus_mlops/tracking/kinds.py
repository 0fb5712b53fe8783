"""The kinds of runs that hold a training, and who they serve; all other kinds keep books."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run

# A cell with its test predictions, and a trial's, which has none of them.
FOLD, TRIED = "fold", "tried"
CELLS = (FOLD, TRIED)
# Of searches: opened, written and closed at once, so that one RUNNING is of a process that was killed in between; what
# is wrong with it is put right when the search goes on.
SEARCH, TRIAL, TUNED = BOOKKEEPING = ("search", "trial", "tuned")
# Of what was taken out of the ledger, where it may not be deleted.
DISCARDED = "discarded"
# The tag, of a run or an experiment, whose markdown the interface shows first.
NOTE = "mlflow.note.content"


def kind_of(run: Run) -> str:
    """The kind of a run; "" for one that is not ours."""
    return str(run.data.tags.get("kind", ""))


def serving(tried: bool) -> tuple[str, ...]:
    """Which kinds of finished runs a cell needs no training for, the best first: a trial is served by both."""
    return CELLS if tried else (FOLD,)
