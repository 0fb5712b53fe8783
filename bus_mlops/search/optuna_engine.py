"""Optuna proposes the trials of a study, group by group; what it is told comes from the ledger.

A group of trials is proposed from the values of all groups before it and trained together. What is proposed follows
from the seed and those values alone, so a study that was cut off is simply gone through again: its cells are in the
ledger, its failures in the store, and the sampler arrives where it was. That holds for a kill at any point and for
several drivers on one study: they propose the same trials, and share out the cells as the drivers of any table do.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.config.searches import Parameters
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.search.proposer import REDUCTION, FoldPruner, Proposer, rungs
from bus_mlops.search.stopping import reason_to_stop
from bus_mlops.search.study_store import Kept, StudyStore
from bus_mlops.search.trials import BATCH, Outcome, Trials

if TYPE_CHECKING:
    pass

LOG = logging.getLogger(__name__)


def run_study(trials: Trials, folder: Path) -> list[TrialRecord]:
    """Run or resume a study; a trial one of whose cells fails does not count.

    Args:
        trials: The study.
        folder: Of the journals.

    Returns:
        Its trials by number: as many as were asked for, and those that failed in between.

    Raises:
        CellsFailedError: Nothing but failures comes.
    """
    store = StudyStore.open(trials, folder)
    proposer = Proposer(trials)
    pruner = FoldPruner(trials)
    records: list[TrialRecord] = []
    failed_in_a_row = 0
    kept = store.read()
    while (left := trials.wanted - _count(records)) > 0 and not proposer.exhausted:
        group = proposer.ask(_size(kept, len(records), left), kept)
        known = {number: kept[number] for number in group if number in kept}
        judged = _judge(trials, proposer, pruner, group, known)
        kept = store.read()  # another driver may have been faster
        new = [each for number, each in judged.items() if number not in kept]
        failed = [each for each in new if each.trial.state == "failed"]
        worked = any(each.trial.state == "complete" for each in judged.values()) or _count(records)
        if failed and not worked and trials.failed is not None:
            raise trials.failed  # if nothing ever worked, it is not the parameters
        for each in new:
            store.append(each, proposer.distributions, trials.plan.settings.constraint)
        kept = store.read()
        if any(kept[number].trial.state != each.trial.state for number, each in judged.items()):
            # The other one saw a trial fail, or work, that did not here.
            known = {number: kept[number] for number in group}
            judged = _judge(trials, proposer, pruner, group, known)
        for each in judged.values():
            proposer.tell(each.trial)
            pruner.tell(each.trial)
            records.append(each.trial)
            trials.tell(each.trial)
        failed_in_a_row = failed_in_a_row + len(failed) if len(failed) == len(group) else 0
        if failed_in_a_row >= BATCH and trials.failed is not None:
            raise trials.failed
        trials.stopped = reason_to_stop(trials, records)
        if trials.stopped:
            LOG.info("[search] %s: %s", trials.name, trials.stopped)
            break
    return _asked_for(records, trials.wanted)


def _size(kept: Mapping[int, Kept], number: int, left: int) -> int:
    """How many trials are proposed together from this one on: as many as the last time, if there was one."""
    return kept[number].size if number in kept else min(BATCH, left)


def _count(records: Sequence[TrialRecord]) -> int:
    return sum(trial.state != "failed" for trial in records)


def _asked_for(records: Sequence[TrialRecord], wanted: int) -> list[TrialRecord]:
    return [trial for number, trial in enumerate(records) if _count(records[: number + 1]) <= wanted]


@dataclass(frozen=True)
class _Stage:
    """Up to where the trials of a group are trained before it is asked which of them go on."""

    epochs: int | None
    steps: int
    resource: int


def stages(trials: Trials) -> list[_Stage]:
    """Rungs of epochs on all steps, then all epochs, step by step where folds are pruned."""
    pruning = trials.plan.settings.pruning
    reached = rungs(pruning, trials.epochs)
    every = len(trials.steps)
    found = [_Stage(epochs, every, REDUCTION**rung) for rung, epochs in enumerate(reached)]
    steps = range(1, every + 1) if pruning.folds != "none" else (every,)
    return found + [_Stage(None, count, REDUCTION ** len(reached)) for count in steps]


def _judge(
    trials: Trials,
    proposer: Proposer,
    pruner: FoldPruner,
    group: Mapping[int, Parameters],
    known: Mapping[int, Kept],
) -> dict[int, Kept]:
    """Train the trials of a group, stage by stage; what was kept of a trial before decides what becomes of it."""
    failed = {number: each.trial for number, each in known.items() if each.trial.state == "failed"}
    ended: dict[int, tuple[TrialRecord, int | None]] = {number: (trial, None) for number, trial in failed.items()}
    going_on = {number: parameters for number, parameters in group.items() if number not in ended}
    spent = dict.fromkeys(going_on, 0)
    planned = stages(trials)
    for number_of_stage, stage in enumerate(planned):
        is_last = stage is planned[-1]
        steps = None if stage.steps == len(trials.steps) else range(stage.steps)
        outcomes = trials.evaluate(going_on, stage.epochs, steps)
        for number, outcome in outcomes.items():
            spent[number] += outcome.epochs
        worked = {number: outcome for number, outcome in outcomes.items() if not outcome.failure}
        stop = {} if is_last else _pruned(trials, proposer, pruner, stage, worked)
        for number, outcome in outcomes.items():
            before = known.get(number)
            if before is not None:
                pruned = before.trial.reason if before.stage == number_of_stage else ""
            else:
                pruned = stop.get(number, "")
            if outcome.failure or pruned or is_last:
                epochs = spent[number] if before is None else before.trial.epochs
                record = trials.record(number, group[number], outcome, pruned=pruned, epochs=epochs)
                ended[number] = (record, number_of_stage if pruned else None)
                del going_on[number]
        if not going_on:
            break
    for number, before in known.items():
        _compare(before.trial, ended[number][0])
    first = min(group)
    return {number: Kept(ended[number][0], first, len(group), ended[number][1]) for number in sorted(group)}


def _pruned(
    trials: Trials, proposer: Proposer, pruner: FoldPruner, stage: _Stage, outcomes: Mapping[int, Outcome]
) -> dict[int, str]:
    """Number -> why it does not go on. All report before any is judged, the best first; the first trial always goes on.

    A pruner that compares with those judged before it would otherwise let through whoever comes first.
    """
    pruning = trials.plan.settings.pruning
    sign = trials.directions[0]
    order = sorted(outcomes, key=lambda number: (-sign * outcomes[number].values[0], number))
    found = {}
    if stage.epochs is not None:
        for number in sorted(outcomes):
            proposer.report(number, outcomes[number].values[0], stage.resource)
        for number in order:
            if proposer.should_prune(number) and number:
                found[number] = f"after {stage.epochs} epochs, by {pruning.epochs.replace('_', ' ')}"
        return found
    for number in order:
        if pruner.should_prune(number, outcomes[number].steps) and number:
            found[number] = f"after {stage.steps} of {len(trials.steps)} steps, by {pruning.folds}"
            proposer.report(number, outcomes[number].values[0], stage.resource)
    return found


def _compare(before: TrialRecord, now: TrialRecord) -> None:
    """Say so if the store has other values than the runs."""
    same = len(before.values) == len(now.values) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in zip(before.values, now.values, strict=True)
    )
    if not same:
        LOG.warning(
            "[search] trial %d is %s by its runs and %s by the journal, which was changed: the runs count",
            now.number,
            _numbers(now.values),
            _numbers(before.values),
        )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values) or "nothing"
