"""What a search has left, for the report: the choice for each fold, how much it varies, its trials, its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bus_mlops.evaluation.search_words import (
    difference_words,
    fold_words,
    limits_words,
    metric_of,
    networks,
    reached,
    reached_heading,
    variation,
    words,
)
from bus_mlops.evaluation.searched import Choice, SearchResult, TrialRecord


def search_sections(searches: Mapping[str, SearchResult]) -> list[dict[str, Any]]:
    """One entry a search that has trials, with its networks; each has its choices, words on its trials, and figures."""
    return [
        {
            "name": name,
            "made": _made(result),
            "nested": result.nested,
            "headings": reached_heading(result.objective, result.constraint),
            "judge": metric_of(result.objective[-1]).title,
            "networks": [_network(result, each) for each in networks(result)],
        }
        for name, result in searches.items()
        if result.trials
    ]


def search_line(result: SearchResult) -> str:
    """A search in a line: how many trials, and what was chosen for how many folds."""
    if result.note:
        return result.note
    several = len(networks(result)) > 1
    chosen = [
        f"{f'{network}: ' if several else ''}"
        f"{variation([choice for choice in result.choices if choice.network == network])}"
        for network in networks(result)
    ]
    flat = "" if result.nested else ", not nested"
    return f"{len(result.trials)} trials ({result.sampler}{flat}); {'; '.join(chosen)}"


def _made(result: SearchResult) -> str:
    headings = [metric_of(each).heading for each in result.objective]
    made = f"{len(result.trials)} trials of {result.engine} ({result.sampler}), judged by validation "
    limits = limits_words(result.constraint)
    if len(headings) == 1:
        return f"{made}{headings[0]}{f', among those with {limits}' if limits else ''}"
    # Several objectives have a constraint, see `Search`.
    front = "that no other beats in one without losing in another, the best in"
    return f"{made}{' and '.join(headings)}; of those with {limits} {front} {headings[-1]} is chosen"


def _network(result: SearchResult, network: str) -> dict[str, Any]:
    from bus_mlops.evaluation.report.search_figures import search_figures

    trials = [trial for trial in result.trials if trial.network == network]
    choices = [choice for choice in result.choices if choice.network == network]
    return {
        "name": network,
        "choices": [_row(choice, trials, result.objective) for choice in choices],
        "variation": variation(choices),
        "notes": [*_states(trials), *_stopped(result, network)],
        "figures": search_figures(result, network),
    }


def _row(choice: Choice, trials: Sequence[TrialRecord], objective: Sequence[str]) -> dict[str, str]:
    values = {trial.number: reached(trial, objective) for trial in trials if trial.fold == choice.fold}
    return {
        "fold": fold_words(choice.fold),
        "parameters": words(choice.parameters),
        "trial": str(choice.trial),
        "value": values.get(choice.trial, ""),
        "first": values.get(0, ""),
        "difference": difference_words(choice, objective),
        "reason": choice.reason,
    }


def _states(trials: Sequence[TrialRecord]) -> list[str]:
    """How many trials were pruned and failed, and why the latter did."""
    counts = Counter(trial.state for trial in trials)
    reasons = dict.fromkeys(trial.reason for trial in trials if trial.state == "failed" and trial.reason)
    epochs = sum(trial.epochs for trial in trials)
    said = [f"{counts['complete']} complete, {counts['pruned']} pruned, {counts['failed']} failed"]
    said.append(f"{epochs} epochs were trained for them; {sum(not trial.epochs for trial in trials)} cost nothing")
    first = next(iter(reasons), "").strip().splitlines()[:1]
    return [*said, *(f"failed: {line}" for line in first)]


def _stopped(result: SearchResult, network: str) -> list[str]:
    return [
        f"{fold_words(each.fold)} ended after {each.trials} trials: {each.reason}"
        for each in result.stopped
        if each.network == network
    ]
