"""How far searches are: read from their plans, from MLflow while they run, and from `best.json` afterwards.

Nothing is written, and neither TensorFlow nor Optuna is needed, so that a search at work can be asked at any time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.config import Config
from bus_mlops.config.searches import Search
from bus_mlops.errors import ConfigError
from bus_mlops.evaluation.search_words import (
    best_first,
    difference_words,
    fold_words,
    limits_words,
    reached,
    reached_heading,
    words,
)
from bus_mlops.evaluation.searched import FLAT, Choice, SearchResult, TrialRecord, read_result
from bus_mlops.experiments.progress.grid_state import duration
from bus_mlops.experiments.search_plan import SearchPlan, make_search_plans
from bus_mlops.tracking.trial_runs import RecordedTrial, recorded_trials

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

STYLES = {"complete": "", "pruned": "dim", "failed": "red"}


@dataclass(frozen=True)
class StudyState:
    """One study, the search of one network for one test fold.

    Attributes:
        wanted: How many trials are asked for; failed ones do not count.
        trials: Those that there are, by number.
        choice: What was chosen, once the search has ended.
        stopped: Why it ended before all its trials; empty if it did not.
    """

    network: str
    fold: int
    wanted: int
    trials: tuple[TrialRecord, ...]
    choice: Choice | None = None
    stopped: str = ""

    @property
    def done(self) -> int:
        """The trials that count."""
        return sum(trial.state != "failed" for trial in self.trials)


@dataclass(frozen=True)
class SearchState:
    """One search.

    Attributes:
        result: What it has left; None until it has ended.
        seconds: Of a trial, on average; None where that is not known.
    """

    plan: SearchPlan
    studies: tuple[StudyState, ...]
    result: SearchResult | None = None
    seconds: float | None = None

    @property
    def left(self) -> int:
        """The trials that are still to come."""
        return 0 if self.result else sum(max(0, each.wanted - each.done) for each in self.studies)

    @property
    def sentence(self) -> str:
        """How far it is, for people."""
        if self.result is not None and self.result.note:
            return f"skipped: {self.result.note}"
        if not self.studies:
            return f"skipped: {self.plan.missing}"
        done, wanted = sum(each.done for each in self.studies), sum(each.wanted for each in self.studies)
        if self.result is not None:
            return f"ended with {done} trials"
        if not done:
            return "not begun"
        rest = f", about {duration(self.left * self.seconds)} left" if self.left and self.seconds else ""
        return f"{done} of {wanted} trials{rest}"


def read_states(config: Config, results: Path, name: str | None = None) -> dict[str, SearchState]:
    """The state of every search of params.yaml, or of one.

    Args:
        config: The parameters.
        results: The project's folder of results.
        name: Of one search; None for all.

    Raises:
        ConfigError: There is no search of that name.
        EvaluationError: What one has left cannot be read.
        LedgerError: The store cannot be reached.
    """
    if name is not None and name not in config.searches:
        there = ", ".join(config.searches) or "none"
        raise ConfigError(f"no search {name!r} in params.yaml; `searches` has: {there}")
    plans = {each: plan for each, plan in make_search_plans(config).items() if name in (None, each)}
    ended = {each: read_result(results / "search" / each / "best.json") for each in plans}
    asked = {each: plan.settings for each, plan in plans.items() if ended[each] is None}
    recorded = recorded_trials(config.tracking, asked) if asked else {}
    return {each: state_of(plan, ended[each], recorded.get(each, [])) for each, plan in plans.items()}


def state_of(plan: SearchPlan, result: SearchResult | None, recorded: Sequence[RecordedTrial]) -> SearchState:
    """The state of a search by what it has left, or by what MLflow has of it until then."""
    trials = result.trials if result is not None else [each.trial for each in recorded]
    studies = []
    for start in plan.networks:
        for fold in plan.folds if plan.settings.nested else (FLAT,):
            key = start.network, fold
            own = tuple(trial for trial in trials if (trial.network, trial.fold) == key)
            choices = result.choices if result is not None else ()
            stopped = result.stopped if result is not None else ()
            studies.append(
                StudyState(
                    *key,
                    wanted=plan.trials(start),
                    trials=own,
                    choice=next((each for each in choices if (each.network, each.fold) == key), None),
                    stopped=next((each.reason for each in stopped if (each.network, each.fold) == key), ""),
                )
            )
    seconds = statistics.fmean(each.seconds for each in recorded) if recorded else None
    return SearchState(plan, tuple(studies), result, seconds)


def render_list(states: Mapping[str, SearchState]) -> Table:
    """All searches, a line each."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("search", "network", "over", "by", "studies", "state"):
        # Commands are given whole names; several networks stand below each other.
        table.add_column(heading, no_wrap=heading in ("search", "network"), overflow="fold")
    for name, state in states.items():
        settings = state.plan.settings
        table.add_row(
            name,
            "\n".join(settings.network),
            ", ".join(path.rpartition(".")[2].replace("_", " ") for path in settings.space),
            f"{settings.engine}\n{settings.sampler}",
            str(len(state.studies)),
            state.sentence,
        )
    return table


def render_state(state: SearchState) -> Group:
    """One search: a table of the trials of each study, the best of each so far or what was chosen, and what is left."""
    from rich.console import Group
    from rich.text import Text

    settings = state.plan.settings
    head = f"{settings.engine} ({settings.sampler}), {'nested' if settings.nested else 'not nested'}"
    parts: list[Table | Text] = [Text.assemble((state.plan.name, "bold"), f"  {head}: {state.sentence}")]
    several = len(state.plan.networks) > 1
    for study in state.studies:
        title = f"{study.network}, {fold_words(study.fold)}" if several else fold_words(study.fold)
        if study.trials:
            parts.append(_trials(study, settings, title))
        parts.append(Text(f"{title}: {_standing(study, settings)}"))
    if state.left and state.seconds:
        rest = f"about {duration(state.left * state.seconds)} at {duration(state.seconds)} each"
        parts.append(Text(f"{state.left} trials are left, {rest}", style="bold"))
    elif state.left:
        parts.append(Text(f"{state.left} trials are left: dvc repro search@{state.plan.name}", style="bold"))
    return Group(*parts)


def _trials(study: StudyState, settings: Search, title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("parameters", overflow="fold")
    table.add_column(reached_heading(settings.objective, settings.constraint), justify="right", no_wrap=True)
    table.add_column("state")
    table.add_column("epochs\ntrained", justify="right")  # none of a trial whose runs were there already
    marks = _marks(study, settings)
    for trial in study.trials:
        table.add_row(
            str(trial.number),
            Text(words(trial.parameters)),
            reached(trial, settings.objective),
            Text(", ".join([trial.state, *marks.get(trial.number, ())])),
            str(trial.epochs),
            style="bold" if "chosen" in marks.get(trial.number, ()) else STYLES[trial.state],
        )
    return table


def _marks(study: StudyState, settings: Search) -> dict[int, list[str]]:
    marks: dict[int, list[str]] = {}
    best = best_first(study.trials, settings.objective, settings.constraint)
    for number, mark in (
        (best[0].number if best else None, "best"),
        (study.choice.trial if study.choice else None, "chosen"),
    ):
        if number is not None:
            marks.setdefault(number, []).append(mark)
    return marks


def _standing(study: StudyState, settings: Search) -> str:
    best = best_first(study.trials, settings.objective, settings.constraint)
    failed: Iterable[TrialRecord] = [trial for trial in study.trials if trial.state == "failed"]
    notes = [f"{len(list(failed))} failed"] if failed else []
    notes += [f"ended early: {study.stopped}"] if study.stopped else []
    more = f" ({'; '.join(notes)})" if notes else ""
    if study.choice is not None:
        difference = difference_words(study.choice, settings.objective)
        against = f", best minus first {difference}" if difference else ""
        return f"trial {study.choice.trial} was chosen{against}: {study.choice.reason}{more}"
    if not best and any(trial.state == "complete" for trial in study.trials):
        return f"{study.done} of {study.wanted} trials, none of them with {limits_words(settings.constraint)}{more}"
    if not best:
        return f"no trial of {study.wanted} is complete yet{more}"
    value = reached(best[0], settings.objective)
    return f"{study.done} of {study.wanted} trials, best {value} of trial {best[0].number}{more}"
