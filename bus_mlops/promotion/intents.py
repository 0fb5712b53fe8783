"""On what terms a candidate's first run was begun, and what of them is another thing today."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bus_mlops.config.intent import Intent, read_intent
from bus_mlops.experiments.completion import COMPLETED_FROM
from bus_mlops.gate.intent import Intended
from bus_mlops.promotion.looks import SeenLook
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.tracking.ledger import Ledger

if TYPE_CHECKING:
    from mlflow.entities import Run


def intended_of(ledger: Ledger, model: TrainedModel, today: Intent, others: tuple[str, ...] = ()) -> Intended:
    """The terms of a candidate's first run against today's.

    The first run is the earliest that says on what terms it was begun, of all folds and seeds, of the trials that they
    were completed from, and of all trials of the search that chose its parameters.

    Args:
        ledger: Of its runs.
        model: The candidate.
        today: The terms that it is judged on.
        others: Clauses on other things that were changed and need an amendment.
    """
    stated, damages = [], []
    for run in _runs(ledger, model):
        try:
            intent = read_intent(run.data.tags, run.data.params)
        except ValueError as error:
            damages.append(f"the intent of run {run.info.run_id} was edited: {error}")
            continue
        if intent is not None:
            stated.append((int(run.info.start_time), str(run.info.run_id), intent))
    first = min(stated, key=lambda each: each[:2])[2] if stated else None
    changes = (first.changes_to(today) if first is not None else ()) + others
    return Intended(
        first=first.digest if first is not None else "",
        changes=changes,
        damages=tuple(damages[:3]),
    )


def pinned(today: Intent, digest: str | None) -> tuple[str, ...]:
    """What `promotion.protocol` says against today's terms."""
    if digest is None or digest == today.digest:
        return ()
    return (f"promotion.protocol pins the terms {digest[:12]}, and those of params.yaml are {today.digest[:12]}",)


def standing(seen: SeenLook | None, changes: tuple[str, ...]) -> str:
    """The reason of an amendment that was recorded for the same look and the same changes; "" if there is none."""
    return seen.amended if seen is not None and seen.changes == json.dumps(changes) else ""


def _runs(ledger: Ledger, model: TrainedModel) -> Iterator[Run]:
    result = model.choice.result if model.choice is not None else None
    tried = [run for trial in (result.trials if result else ()) for run in trial.runs]
    for run_id in dict.fromkeys((*model.runs.values(), *tried)):
        run = ledger.files.run(run_id)
        yield run
        if COMPLETED_FROM in run.data.tags:
            yield ledger.files.run(run.data.tags[COMPLETED_FROM])
