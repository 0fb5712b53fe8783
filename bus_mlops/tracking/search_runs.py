"""Searches in MLflow: a run a search and network, a child for each trial, and one for the row that was tuned with it.

No search is led by what they hold: they are for people, and for promotion, which chooses anew from the `best.json` and
the trials that are on record here. A search that is resumed or repeated writes them again, and changes nothing.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bus_mlops.config.searches import Choices, Range, Search
from bus_mlops.evaluation.search_words import (
    best_first,
    difference_words,
    fold_words,
    labels,
    metric_of,
    networks,
    reached,
    reached_heading,
    trial_words,
    variation,
    words,
)
from bus_mlops.evaluation.searched import Choice, SearchResult, TrialRecord
from bus_mlops.files import sha256_file, write_json
from bus_mlops.tracking.colours import COLOUR, colour_of
from bus_mlops.tracking.kinds import NOTE, SEARCH, TRIAL, TUNED
from bus_mlops.tracking.row_page import FOLDS_PLANNED, STRATEGY, read_page
from bus_mlops.tracking.run_files import digests_of
from bus_mlops.tracking.search import search_all
from bus_mlops.tracking.trial_runs import PARENT, WHERE, place_of, query_of, trial_metrics, trial_parameters
from bus_mlops.tracking.views import page_of

if TYPE_CHECKING:
    from mlflow.entities import Run

    from bus_mlops.tracking.ledger import Ledger

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
BEST = "best.json"


class Planned(Protocol):
    """The search that a study belongs to."""

    name: str
    settings: Search


class Started(Protocol):
    """The network that a study is about."""

    network: str
    title: str


class Study(Protocol):
    """What is asked of the study of a network for a test fold.

    Its name ends with a digest, behind a hyphen, of all that makes it another study.
    """

    fold: int

    @property
    def plan(self) -> Planned: ...  # noqa: D102 - of a protocol, see its class
    @property
    def start(self) -> Started: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def wanted(self) -> int: ...  # noqa: D102


@dataclass
class _Parent:
    """The run of a search and network, and its trials' runs by fold and number."""

    run_id: str
    title: str
    trials: dict[tuple[int, int], Run]
    best: dict[int, float]


class SearchRuns:
    """Writes what a search does while it does it: a watcher of its studies."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._client = ledger.client
        self._parents: dict[str, _Parent] = {}
        self._study: Study | None = None
        self._since = time.monotonic()

    def started(self, study: Study) -> None:
        """A study begins, or goes on: its parent run is there from now on."""
        self._study, self._since = study, time.monotonic()
        if study.start.network in self._parents:
            return
        settings = study.plan.settings
        tags = {
            "kind": SEARCH,
            "network": study.start.network,
            "search.name": study.plan.name,
            "search.digest": study.name.rpartition("-")[2],
        }
        title = f"{study.plan.name}: {study.start.title}"
        found = self._runs(tags)
        if found:
            run_id = str(found[-1].info.run_id)
        else:
            run_id = str(self._client.create_run(self._ledger.experiment, tags=tags, run_name=title).info.run_id)
            self._ledger.writer.write(run_id, params=_settings(settings), tags={NOTE: _begun(settings)})
        # Nobody would close it if this process were stopped.
        self._client.update_run(run_id, status="SCHEDULED")
        trials = {place_of(run): run for run in self._runs({"kind": TRIAL, PARENT: run_id})}
        self._parents[study.start.network] = _Parent(run_id, title, trials, {})

    def told(self, trial: TrialRecord) -> None:
        """A trial is complete, pruned or failed; nothing is written where its run says so already."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        parent, study = self._parents[trial.network], self._study
        assert study is not None  # noqa: S101 - a study begins before its trials
        objective = study.plan.settings.objective
        place = trial.fold, trial.number
        run = parent.trials.get(place) or next(iter(self._runs(self._named(parent, trial))), None)
        best = self._best(parent, trial, objective)
        if run is not None and run.data.params not in ({}, trial_parameters(trial)):
            # The study was lost, and another trial has this number now.
            self._ledger.writer.discard(run.info.run_id, "its study was begun anew")
            run = None
        tags = self._tags(parent, study, trial)
        metrics = trial_metrics(trial, objective)
        if run is not None and _says(run, STATUS[trial.state], tags, metrics):
            parent.trials[place] = run
            return
        if run is None:
            metrics.append(("seconds", round(seconds, 1), 0))
            run = self._client.create_run(
                self._ledger.experiment,
                start_time=int(1000 * (time.time() - seconds)),
                tags=tags,
                run_name=trial_words(trial),
            )
        self._write(run.info.run_id, metrics, {} if run.data.params else trial_parameters(trial), tags)
        self._client.set_terminated(run.info.run_id, STATUS[trial.state])
        parent.trials[place] = run
        self._write(parent.run_id, _progress(trial, best), {}, {"progress": _at(study, trial)})

    def chosen(self, result: SearchResult) -> None:
        """The search has ended: its figures, `best.json` and what was chosen for each fold."""
        for network in networks(result):
            if network in self._parents:
                self._end(self._parents[network], result, network)

    def tuned(self, search: str, network: str, runs: Mapping[int, str]) -> str:
        """Record the tuned row, trained with what was chosen, as a child of the search's run.

        Args:
            search: The name of the search.
            network: Whose row.
            runs: Test fold -> the run that was trained on it with the parameters chosen for it.

        Returns:
            The id of the child, with the page of a row (`row_page`); empty if no run of the search is there to have it.
        """
        parents = self._runs({"kind": SEARCH, "search.name": search, "network": network})
        if not parents:
            return ""
        parent = str(parents[0].info.run_id)  # the latest
        tags = {"kind": TUNED, PARENT: parent, "network": network, "search.name": search}
        cells = {fold: self._client.get_run(run_id) for fold, run_id in sorted(runs.items())}
        found = self._runs(tags)
        title = f"{parents[0].info.run_name} as chosen, {len(cells)} folds"
        run = found[0] if found else self._client.create_run(self._ledger.experiment, tags=tags, run_name=title)
        of_cells: Mapping[str, str] = next(iter(cells.values())).data.tags if cells else {}
        told: dict[str, str] = {
            "tuned.runs": ", ".join(runs[fold] for fold in sorted(runs)),
            "strategy": f"tuned-{search}",
            f"{STRATEGY}tuned-{search}": title,
            FOLDS_PLANNED: ", ".join(map(str, cells)),
            COLOUR: colour_of(network),
            **{name: of_cells[name] for name in ("leaks", "folds_kind", "data_kind") if name in of_cells},
        }
        run.data.tags.update(told)
        page = read_page(run, cells, self._ledger.predictions, self._ledger.experiment)
        page.write(self._ledger.writer, self._ledger.files, run, told)
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def _end(self, parent: _Parent, result: SearchResult, network: str) -> None:
        own = result.model_copy(
            update={
                "trials": tuple(each for each in result.trials if each.network == network),
                "choices": tuple(each for each in result.choices if each.network == network),
            }
        )
        run = self._client.get_run(parent.run_id)
        asked_for = {(each.fold, each.number) for each in own.trials}
        for each in self._runs({"kind": TRIAL, PARENT: parent.run_id}):
            if place_of(each) not in asked_for:
                self._ledger.writer.discard(each.info.run_id, "the search asks for fewer trials now")
        metrics = [
            (f"chosen/{name}", getattr(choice, name), choice.fold)
            for choice in own.choices
            for name in ("value", "first_value", "difference", "standard_error")
            if getattr(choice, name) is not None
        ]
        tags = {
            NOTE: self._note(parent, own),
            "progress": "done",
            "nested": str(result.nested).lower(),
            **{f"chosen.{fold_words(each.fold)}": words(each.parameters) for each in own.choices},
        }
        self._write(parent.run_id, metrics, self._stored(run, own, network), tags)
        self._client.set_terminated(parent.run_id, "FINISHED")

    def _stored(self, run: Run, result: SearchResult, network: str) -> dict[str, str]:
        """Store `best.json` and the figures; returns their digests as parameters of the run.

        Parameters never change, and two drivers may end at the same moment with other numbers of epochs: each state of
        the search has a folder of its own, named by its order and its content.
        """
        from bus_mlops.evaluation.report.search_figures import search_figures

        known = {path: digest for path, digest in digests_of(run).items() if path.endswith(BEST)}
        with tempfile.TemporaryDirectory(prefix="bus-search-") as folder:
            write_json(Path(folder) / BEST, result.model_dump(mode="json"))
            digest = sha256_file(Path(folder) / BEST)
            if digest in known.values():
                return {}  # the figures follow from it
            for title, drawn in search_figures(result, network).items():
                path = Path(folder) / "figures" / f"{title.replace(' ', '-')}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(drawn)
            return self._ledger.files.store(run.info.run_id, Path(folder), f"state-{len(known) + 1}-{digest[:8]}")

    def _note(self, parent: _Parent, result: SearchResult) -> str:
        values = {(trial.fold, trial.number): reached(trial, result.objective) for trial in result.trials}
        rows = [self._row(parent, choice, result.objective, values) for choice in result.choices]
        headings = reached_heading(result.objective, result.constraint)
        table = [
            f"| chosen for | parameters | validation {headings} | first trial | best minus first | why |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
        best = best_first(result.trials, result.objective, result.constraint)[:5]
        listed = [
            f"- {reached(each, result.objective)}: {self._link(parent.trials[each.fold, each.number])}"
            for each in best
            if (each.fold, each.number) in parent.trials
        ]
        flat = [] if result.nested else ["**Not nested**: the images that the choice rests on are tested on, too.", ""]
        return "\n".join(
            [
                f"{len(result.trials)} trials of {result.engine} ({result.sampler}). Chosen over the folds: "
                f"{variation(result.choices)}.",
                "",
                *flat,
                *table,
                "",
                "The best on validation:",
                "",
                *listed,
            ]
        )

    def _row(
        self, parent: _Parent, choice: Choice, objective: Sequence[str], values: Mapping[tuple[int, int], str]
    ) -> str:
        run = parent.trials.get((choice.fold, choice.trial))
        name = f"trial {choice.trial}"
        cells = (
            fold_words(choice.fold),
            f"{words(choice.parameters)} ({self._link(run, name) if run is not None else name})",
            values[choice.fold, choice.trial],
            values[choice.fold, 0],
            difference_words(choice, objective),
            choice.reason,
        )
        return "| " + " | ".join(each.replace("|", "/") for each in cells) + " |"

    def _link(self, run: Run, title: str = "") -> str:
        return f"[{title or run.info.run_name}]({page_of(self._ledger.experiment, run.info.run_id)})"

    def _tags(self, parent: _Parent, study: Study, trial: TrialRecord) -> dict[str, str]:
        links = [
            f"[{number}]({page_of(self._ledger.experiment, run_id)})" for number, run_id in enumerate(trial.runs, 1)
        ]
        note = [
            *([f"{trial.state.capitalize()}: {trial.reason}"] if trial.reason else []),
            *([f"Its trainings: {', '.join(links)}"] if links else []),
        ]
        return {
            **self._named(parent, trial),
            "network": trial.network,
            "search.name": study.plan.name,
            "search.study": study.name,
            "trial.state": trial.state,
            "trial.runs": ", ".join(trial.runs),
            **({"trial.reason": trial.reason[:4000]} if trial.reason else {}),
            NOTE: "\n\n".join(note)[:7000],
        }

    def _named(self, parent: _Parent, trial: TrialRecord) -> dict[str, str]:
        """The tags that say which trial of which search a run is of."""
        return {
            "kind": TRIAL,
            PARENT: parent.run_id,
            "search.fold": str(trial.fold),
            "trial.number": str(trial.number),
        }

    @staticmethod
    def _best(parent: _Parent, trial: TrialRecord, objective: Sequence[str]) -> float | None:
        """The best value of the trial's fold so far, this one's counted."""
        if trial.state == "complete" and trial.values:
            direction = metric_of(objective[0]).direction
            seen = parent.best.get(trial.fold, trial.values[0])
            parent.best[trial.fold] = direction * max(direction * seen, direction * trial.values[0])
        return parent.best.get(trial.fold)

    def _runs(self, tags: Mapping[str, str]) -> list[Run]:
        return search_all(self._client, self._ledger.experiment, query_of(tags))

    def _write(
        self,
        run_id: str,
        metrics: Iterable[tuple[str, float, int]],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, step) for name, value, step in metrics],
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )


def _settings(settings: Search) -> dict[str, str]:
    """What a search is about, as parameters of its run: without what may change as it goes on."""
    return {
        "engine": settings.engine,
        "sampler": settings.sampler,
        "objective": ", ".join(settings.objective),
        "nested": str(settings.nested).lower(),
        **{f"space {name}": _in_words(settings.space[path])[:500] for path, name in labels(settings.space).items()},
    }


def _in_words(dimension: Range | Choices) -> str:
    """What is tried of a path.

    >>> _in_words(Choices(choices=(1, 2, "a"))), _in_words(Range(low=1, high=5, step=0.5, when={"loss.kind": "focal"}))
    ('1, 2, a', '1 to 5 by 0.5, where loss.kind is focal')
    """
    if isinstance(dimension, Choices):
        said = ", ".join(map(str, dimension.choices))
    else:
        said = f"{dimension.low} to {dimension.high}"
        said += f" by {dimension.step}" if dimension.step else " on a logarithmic scale" if dimension.log else ""
    return said + "".join(f"{WHERE}{path} is {value}" for path, value in dimension.when.items())


def _begun(settings: Search) -> str:
    named = ", ".join(labels(settings.space).values())
    return f"Looks for the best {named} on validation parts. The children are its trials; the choice follows."


def _says(run: Run, status: str, tags: Mapping[str, str], metrics: Iterable[tuple[str, float, int]]) -> bool:
    latest = {name: value for name, value, _ in metrics}
    return (
        run.info.status == status
        and tags.items() <= run.data.tags.items()
        and all(math.isclose(run.data.metrics.get(name, math.nan), value) for name, value in latest.items())
    )


def _progress(trial: TrialRecord, best: float | None) -> list[tuple[str, float, int]]:
    """A point of the parent's charts: the trial's value and the best so far, over the numbers of trials."""
    fold = fold_words(trial.fold)
    values = [(f"value/{fold}", trial.values[0], trial.number)] if trial.values else []
    return [*values, *([(f"best/{fold}", best, trial.number)] if best is not None else [])]


def _at(study: Study, trial: TrialRecord) -> str:
    return f"{fold_words(trial.fold)}: {trial.number + 1} of {study.wanted} trials"
