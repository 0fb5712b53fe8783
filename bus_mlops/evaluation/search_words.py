"""A search in words: its parameters, trials and choices as people read them, in MLflow, in a terminal and on a page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bus_mlops.evaluation.metric import Metric
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.searched import FLAT, Choice, SearchResult, TrialRecord

# Of a number in a sentence: what lies behind the fourth digit drowns in the noise of a validation part.
_DIGITS = 4


def labels(paths: Iterable[str]) -> dict[str, str]:
    """Path -> what people call it: its last part, or all of it where two paths share that.

    >>> labels(["loss.positive_weight", "options.width", "a.width"])
    {'loss.positive_weight': 'positive weight', 'options.width': 'options width', 'a.width': 'a width'}
    """
    known = list(dict.fromkeys(paths))
    shared = Counter(path.rpartition(".")[2] for path in known)
    short = {path: path.rpartition(".")[2] if shared[path.rpartition(".")[2]] == 1 else path for path in known}
    return {path: name.replace(".", " ").replace("_", " ") for path, name in short.items()}


def words(parameters: Mapping[str, Any]) -> str:
    """The parameters of a trial in a line.

    >>> words({"loss.classification_weight": 3.0, "loss.kind": "focal", "loss.gamma": 2.0})
    'classification weight 3, focal, gamma 2'
    """
    named = labels(parameters)
    return ", ".join(
        shown(value) if named[path] in ("kind", "name") else f"{named[path]} {shown(value)}"
        for path, value in parameters.items()
    )


def shown(value: Any) -> str:
    """A parameter's value.

    >>> shown(3.0), shown(0.00012345), shown("cross_entropy"), shown(True)
    ('3', '0.0001234', 'cross-entropy', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value).replace("_", "-")


def fold_words(fold: int) -> str:
    """A test fold, or what stands for all of them.

    >>> fold_words(2), fold_words(FLAT)
    ('fold 2', 'all folds')
    """
    return "all folds" if fold == FLAT else f"fold {fold}"


def trial_words(trial: TrialRecord) -> str:
    """What a trial is called: the test fold that its study chooses for, its number and its parameters."""
    return f"{fold_words(trial.fold)}, trial {trial.number}: {words(trial.parameters)}"


def metric_of(name: str) -> Metric:
    """An objective's metric; one that is not registered any more is shown as a fraction."""
    return METRICS.get(name) or Metric(name, name.replace("_", " "))


def value_words(values: Iterable[float], objective: Iterable[str]) -> str:
    """The values of a trial, each in the unit of its objective; empty for a trial without any."""
    return ", ".join(metric_of(name).format_with_unit(value) for name, value in zip(objective, values, strict=False))


def reached(trial: TrialRecord, objective: Sequence[str]) -> str:
    """The values of a trial, and after them those of metrics under a constraint that are no objective."""
    limited = {name: value for name, value in trial.constraints.items() if name not in objective}
    return ", ".join(filter(None, (value_words(trial.values, objective), value_words(limited.values(), limited))))


def reached_heading(objective: Iterable[str], constraint: Iterable[str]) -> str:
    """What the values of `reached` are of."""
    return ", ".join(metric_of(name).heading for name in dict.fromkeys((*objective, *constraint)))


def limits_words(constraint: Mapping[str, float]) -> str:
    """The constraints of a search; empty if it has none.

    >>> limits_words({"sensitivity": 0.9, "brier": 0.25})
    'Sensitivity of at least 90.0 %, Brier score of at most 0.250'
    """
    return ", ".join(
        f"{metric_of(name).heading} of at {'least' if metric_of(name).direction > 0 else 'most'} "
        f"{metric_of(name).format_with_unit(limit)}"
        for name, limit in constraint.items()
    )


def difference_words(choice: Choice, objective: Sequence[str]) -> str:
    """By how much the best trial is better than the first, in the unit of the last objective, which judges.

    Empty where the best trial is the first one.
    """
    if choice.best == 0:
        return ""
    metric = metric_of(objective[-1])
    scale, places = (100, 1) if metric.unit == "percent" else (1, 3)
    error = "unknown" if choice.standard_error is None else metric.format(choice.standard_error)
    return f"{choice.difference * scale:+.{places}f} ± {error}"


def variation(choices: Iterable[Choice]) -> str:
    """How much the choice varies over test folds: of each parameter its value, its range, or its values with counts."""
    made = list(choices)
    paths = list(dict.fromkeys(path for choice in made for path in choice.parameters))
    named = labels(paths)
    said = []
    for path in paths:
        values = [choice.parameters[path] for choice in made if path in choice.parameters]
        where = "" if len(values) == len(made) else f" ({len(values)} of {len(made)})"
        said.append(f"{named[path]} {_spread(values)}{where}")
    return "; ".join(said)


def _spread(values: Sequence[Any]) -> str:
    """Values as one, as a range of numbers, or with their counts.

    >>> _spread([3.0, 3.0]), _spread([2.5, 1.0, 3.0]), _spread(["focal", "cross_entropy", "focal"])
    ('3', '1 to 3', 'focal (2), cross-entropy (1)')
    """
    counts = Counter(shown(value) for value in values)
    if len(counts) == 1:
        return next(iter(counts))
    if any(isinstance(value, bool | str) for value in values):
        return ", ".join(f"{value} ({count})" for value, count in counts.most_common())
    return f"{shown(min(values))} to {shown(max(values))}"


def networks(result: SearchResult) -> list[str]:
    """The networks of a search, in the order of its trials."""
    named = [trial.network for trial in result.trials] + [choice.network for choice in result.choices]
    return list(dict.fromkeys(named))


def best_first(
    trials: Iterable[TrialRecord], objective: Sequence[str], constraint: Mapping[str, float]
) -> list[TrialRecord]:
    """The complete trials that meet the constraints, from the best last objective to the worst, the earliest first."""
    direction = metric_of(objective[-1]).direction if objective else 1
    complete = [trial for trial in trials if trial.state == "complete" and trial.values and meets(trial, constraint)]
    return sorted(complete, key=lambda trial: (-direction * trial.values[-1], trial.number))


def meets(trial: TrialRecord, constraint: Mapping[str, float]) -> bool:
    """Whether a trial meets every constraint: the least of a metric, or the most, if less is better."""
    return all(
        metric_of(name).direction * (trial.constraints.get(name, math.nan) - limit) >= 0
        for name, limit in constraint.items()
    )
