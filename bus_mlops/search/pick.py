"""Which trial of a study is chosen: by the choice rule, under constraints, and from a front of several objectives.

One objective: the choice rule of `evaluation.choice` among the trials that meet every constraint. Several: among those
of them that no other beats in one objective without losing in another (the Pareto front), the best in the **last**
objective: with objective [sensitivity, specificity] and constraint sensitivity 0.9 the highest specificity with a
sensitivity of at least 0.9. The choice rule then compares it with the first trial in that last objective, and the first
stays if the difference lies within the noise. A first trial that misses a constraint, or failed, has no such right. If
no trial meets the constraints, the one that misses them least is taken, and `reason` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.choice import Candidate, choose, difference_error
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.searched import TrialRecord

if TYPE_CHECKING:
    import pandas as pd


class Rule(Protocol):
    """What a choice is made by: of the settings of a search, and on record with its result."""

    @property
    def objective(self) -> tuple[str, ...]: ...  # noqa: D102 - of a protocol, see its class
    @property
    def constraint(self) -> dict[str, float]: ...  # noqa: D102
    @property
    def standard_errors(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Pick:
    """The chosen trial; as in `Choice` of evaluation/searched.py."""

    number: int
    best: int
    first_value: float
    difference: float
    standard_error: float
    reason: str


def pick(trials: Sequence[TrialRecord], validation: Mapping[int, Sequence[pd.DataFrame]], search: Rule) -> Pick:
    """Choose among the complete trials of a study.

    Args:
        trials: In order of number, one or more.
        validation: Number -> validation predictions on each step.
        search: Its objectives, constraints and number of standard errors.

    Raises:
        EvaluationError: No trial is complete.
    """
    if not trials:
        raise EvaluationError("no trial of the study is complete: see why they failed, and run the search again.")
    first = trials[0]
    feasible = [trial for trial in trials if violation(trial.constraints, search.constraint) <= 0]
    limits = ", ".join(f"{name} {limit:g}" for name, limit in search.constraint.items())
    if not feasible:
        nearest = min(trials, key=lambda trial: (violation(trial.constraints, search.constraint), trial.number))
        reached = ", ".join(f"{name} {value:.3f}" for name, value in nearest.constraints.items())
        reason = f"no trial meets the constraint {limits}; this one misses it least ({reached})"
        return Pick(nearest.number, nearest.number, first.values[0], 0.0, 0.0, reason)
    directions = [METRICS[name].direction for name in search.objective]
    front = pareto_front(feasible, directions)
    judge = METRICS[search.objective[-1]]
    why = [f"of {len(front)} on the front, judged by {judge.heading}"] if len(directions) > 1 else []

    def candidate(trial: TrialRecord) -> Candidate:
        return Candidate(trial.number, trial.parameters, trial.values[-1], list(validation[trial.number]))

    if first.number == 0 and first in feasible:
        among = [candidate(trial) for trial in [first, *(trial for trial in front if trial is not first)]]
        chosen = choose(among, search.objective[-1], search.standard_errors)
        why.append(chosen.reason)
        return Pick(
            chosen.number, chosen.best, first.values[0], chosen.difference, chosen.standard_error, "; ".join(why)
        )
    best = max(front, key=lambda trial: (judge.direction * trial.values[-1], -trial.number))
    difference = judge.direction * (best.values[-1] - first.values[-1])
    error = difference_error(candidate(first), candidate(best), judge) if best is not first else 0.0
    missed = f"the first trial misses the constraint {limits}" if first.number == 0 else "the first trial failed"
    why += [missed, f"the best of the others in {judge.heading}"]
    return Pick(best.number, best.number, first.values[0], difference, error, "; ".join(why))


def violation(reached: Mapping[str, float], limits: Mapping[str, float]) -> float:
    """By how much constraints are missed (fraction), summed; 0 if all are met.

    >>> violation({"sensitivity": 0.75, "brier": 0.125}, {"sensitivity": 0.875, "brier": 0.25})
    0.125
    """
    return sum(max(0.0, excess) for excess in excesses(reached, limits).values())


def excesses(reached: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """By how much each constraint is missed (fraction); 0 or less if it is met."""
    return {name: METRICS[name].direction * (limit - reached[name]) for name, limit in limits.items()}


def pareto_front(trials: Sequence[TrialRecord], directions: Sequence[int]) -> list[TrialRecord]:
    """Those that no other beats in one objective without losing in another, in the same order; equal ones all."""
    values = {
        trial.number: tuple(sign * value for sign, value in zip(directions, trial.values, strict=True))
        for trial in trials
    }

    def beaten(trial: TrialRecord) -> bool:
        own = values[trial.number]
        return any(
            other != own and all(theirs >= mine for theirs, mine in zip(other, own, strict=True))
            for other in values.values()
        )

    return [trial for trial in trials if not beaten(trial)]
