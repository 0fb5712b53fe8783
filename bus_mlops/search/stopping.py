"""When a study may end before all its trials: what more of them would gain is less than what validation can tell.

The gain is read off the values so far, without a model of them. If trials came in any order with the same chance, the
best of n is expected to lie E[best of n] - E[best of n - m] above the best of n - m, which order statistics give
exactly; and since an expected best rises ever more slowly with the number of trials, the next m cannot be expected to
gain more. A sampler that learns proposes better trials late, so the bound is not strict; it is therefore taken from the
complete trials only, as if the pruned ones, which are worse, had never been: that raises it.

The noise is the standard error of the paired difference between the best trial and the first (or, if the first is best,
the next), from the same bootstrap over leakage groups as the choice: a smaller gain could not be told from none.

Optuna's own terminator is deprecated and to be removed, its regret bound needs torch, and its error of
cross-validation, the variance between folds, is not the error of a difference between trials on the same folds, which
is far smaller.

Off by default: where validation parts are small, the noise is so large that a study would end as soon as it may, and
studies of one search that end at different numbers of trials differ in how much they have chosen from.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, isinf
from typing import TYPE_CHECKING

from bus_mlops.evaluation.choice import Candidate, difference_error
from bus_mlops.evaluation.metrics import METRICS

if TYPE_CHECKING:
    from bus_mlops.evaluation.searched import TrialRecord
    from bus_mlops.search.trials import Trials

# Complete trials before which nothing is said of what more would gain.
FEWEST = 12


def reason_to_stop(trials: Trials, records: Sequence[TrialRecord]) -> str:
    """Why a study may end now; empty if it may not, or shall not (`stop: never`)."""
    settings = trials.plan.settings
    complete = [trial for trial in records if trial.state == "complete"]
    left = trials.wanted - sum(trial.state != "failed" for trial in records)
    if settings.stop == "never" or len(complete) < FEWEST or left <= 0:
        return ""
    metric = METRICS[settings.objective[0]]
    gain = expected_gain([metric.direction * trial.values[0] for trial in complete], left)
    ranked = sorted(complete, key=lambda trial: (-metric.direction * trial.values[0], trial.number))
    first, other = complete[0], next(trial for trial in ranked if trial is not complete[0])
    noise = difference_error(_candidate(trials, first), _candidate(trials, other), metric)
    if gain >= noise or isinf(noise):  # infinite: validation parts too small to tell
        return ""
    return (
        f"after {len(complete)} complete trials: the {left} left are expected to gain {gain:.4f} at most, less than "
        f"the noise of validation ({noise:.4f})"
    )


def expected_gain(values: Sequence[float], more: int) -> float:
    """By how much more trials are expected to raise the best value, at most.

    Args:
        values: Of the trials so far, two or more; more is better.
        more: How many are left.

    >>> expected_gain([0.5, 0.75, 1.0, 0.75], 2)  # best of 4: 1; of 2, on average: 0.875
    0.125
    """
    count = len(values)
    spared = min(more, count // 2)
    gain = max(values) - expected_best(values, count - spared)
    return gain * more / spared


def expected_best(values: Sequence[float], count: int) -> float:
    """The best of so many of the values, averaged over all subsets of that size."""
    ranked = sorted(values)
    subsets = comb(len(ranked), count)
    return sum(value * comb(rank, count - 1) for rank, value in enumerate(ranked)) / subsets


def _candidate(trials: Trials, trial: TrialRecord) -> Candidate:
    validation = [trials.validation(run_id) for run_id in trial.runs]
    return Candidate(trial.number, trial.parameters, trial.values[0], validation)
