"""Parent runs: one a spec, found or made, named by its row, and closed with what its folds came to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from bus_mlops.spec import RunSpec
from bus_mlops.tracking.colours import COLOUR, colour_of
from bus_mlops.tracking.kinds import CELLS, NOTE, kind_of
from bus_mlops.tracking.params import flatten
from bus_mlops.tracking.row_page import name_of, read_page, strategies_of
from bus_mlops.tracking.run_files import RunFiles
from bus_mlops.tracking.run_writer import RunWriter
from bus_mlops.tracking.search import search_all

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Up to so many fingerprints are asked for one by one; for more of them everything is read once, at 3 ms a run.
FEW = 50
# Tags of a parent run: the folds with test predictions, and those that trials were trained on.
FOLDS_FINISHED, FOLDS_TRIED = "folds_finished", "folds_tried"
TITLE = "mlflow.runName"


class ParentRuns:
    """The parent runs of an experiment."""

    def __init__(self, client: MlflowClient, writer: RunWriter, experiment: str) -> None:
        self._client = client
        self._writer = writer
        self._files = RunFiles(client)
        self._experiment = experiment
        self._parents: dict[str, Run] = {}
        self._lookups = 0
        # By fingerprint, of parents that are FINISHED: the folds that are tested, and those that were at least tried.
        self._complete: dict[str, tuple[set[int], set[int]]] = {}

    def find_or_create(
        self,
        spec: RunSpec,
        fingerprint: str,
        title: str,
        tags: Mapping[str, str],
        kind: str = "spec",
        keep: bool = False,
    ) -> str:
        """The id of the parent run of a fingerprint, created when it is new; tags are added to it.

        It is called by the title of the row that it is, of which a tag `strategy.<name>` tells, whoever found it first.
        `kind` is "spec", whose children are folds, or "refit", which no comparison of folds may meet. With `keep` a run
        that is there keeps the tags that it has.
        """
        found = self._parent(fingerprint, kind)
        if found is not None:
            present = found.data.tags if keep else {}
            return self._join(found, {name: value for name, value in tags.items() if name not in present})
        fixed = {"kind": kind, "fingerprint": fingerprint, "network": spec.network, **tags, **_of_rows(tags)}
        fixed[COLOUR] = colour_of(spec.network)
        run = self._client.create_run(self._experiment, tags=fixed, run_name=title)
        run_id = str(run.info.run_id)
        first = next(iter(self._parents_of(fingerprint, kind)), run)
        if first.info.run_id != run_id:  # another driver has planned the same meanwhile
            self._writer.discard(run_id, f"run {first.info.run_id} is there already")
            self._parents[fingerprint] = first
            return self._join(first, tags)
        self._writer.write(run_id, params=flatten(spec.model_dump(mode="json")))
        self._writer.inputs(run_id, tags)
        # Nobody would close it if this process were stopped: RUNNING are its folds.
        self._client.update_run(run_id, status="SCHEDULED")
        self._parents[fingerprint] = run
        return run_id

    def find(self, fingerprint: str, kind: str = "spec") -> str | None:
        """The id of the parent run of a fingerprint, if there is one."""
        found = self._parent(fingerprint, kind)
        return None if found is None else str(found.info.run_id)

    def _join(self, parent: Run, tags: Mapping[str, str]) -> str:
        """Add what is new among these tags to a parent run, and name it by its row; returns its id."""
        present = parent.data.tags
        tags = {**tags, **_of_rows({**present, **tags})}
        new = {name: value for name, value in tags.items() if present.get(name) != value}
        run_id = str(parent.info.run_id)
        if new:
            self._writer.tag(run_id, new)
            present.update(new)
        title = name_of(present)
        if title and title != present.get(TITLE):
            self._client.update_run(run_id, name=title)
            present[TITLE] = title
        return run_id

    def _parent(self, fingerprint: str, kind: str) -> Run | None:
        """The parent run of a fingerprint; asked for one by one at first, then all at once: plans have hundreds."""
        if fingerprint in self._parents or self._lookups > FEW:
            return self._parents.get(fingerprint)
        self._lookups += 1
        if self._lookups <= FEW:
            found = self._parents_of(fingerprint, kind)
        else:
            found = [run for each in ("spec", "refit") for run in self._runs(f"tags.kind = '{each}'")]
        for run in sorted(found, key=_age):
            of_run = run.data.tags["fingerprint"]
            self._parents.setdefault(of_run, run)
            if run.info.status == "FINISHED":
                tested, tried = (_folds(run.data.tags.get(tag, "")) for tag in (FOLDS_FINISHED, FOLDS_TRIED))
                self._complete.setdefault(of_run, (tested, tested | tried))
        return self._parents.get(fingerprint)

    def _parents_of(self, fingerprint: str, kind: str) -> list[Run]:
        """The parent runs of a fingerprint, the first one first: several if drivers planned it at the same moment."""
        return sorted(self._runs(f"tags.kind = '{kind}' and tags.fingerprint = '{fingerprint}'"), key=_age)

    def _runs(self, query: str) -> list[Run]:
        return search_all(self._client, self._experiment, query)

    def is_summarised(self, fingerprint: str, folds: Iterable[int], tried: Iterable[int] = ()) -> bool:
        """Whether the parent run of a fingerprint is FINISHED with all of these folds, tested or tried."""
        complete = self._complete.get(fingerprint, (set(), set()))
        return all(set(asked) <= there for asked, there in zip((folds, tried), complete, strict=True))

    def summarise(
        self,
        parent_run: str,
        fingerprint: str,
        folds: Iterable[int],
        tried: Iterable[int] = (),
        predictions: Callable[[str], pd.DataFrame] | None = None,
    ) -> dict[str, float]:
        """Write what the finished folds came to on the parent run (`row_page`), and close it.

        It is FINISHED when all of `folds`, those that were asked for, are, and all of `tried`, which trials asked for,
        have a run of one kind or the other; otherwise FAILED. Folds that another driver trained count too. Trials are
        in no mean, and their folds are not among those that are finished: they stand in a tag of their own.

        Args:
            parent_run: Its id.
            fingerprint: Of its spec.
            folds: Those that were asked for.
            tried: Those that trials asked for.
            predictions: Those of a run, by its id; intervals are made of them, as those of the tables are.

        Returns:
            The means and ends of intervals that were written.
        """
        latest, only_tried = self._cells_of(fingerprint)
        tags = {FOLDS_FINISHED: _words(latest), **({FOLDS_TRIED: _words(only_tried)} if only_tried else {})}
        values = self._show(parent_run, latest, tags, predictions)
        there = set(latest), {*latest, *only_tried}
        complete = set(folds) <= there[0] and set(tried) <= there[1]
        self._client.set_terminated(parent_run, "FINISHED" if complete else "FAILED")
        self._complete[fingerprint] = there if complete else (set(), set())
        return values

    def show_earlier(self, predictions: Callable[[str], pd.DataFrame]) -> int:
        """Write on the finished parent runs of earlier versions what `summarise` writes on those of this one.

        Returns:
            How many there were.
        """
        found = self._runs(f"attributes.status = 'FINISHED' and tags.kind = 'spec' and tags.{FOLDS_FINISHED} LIKE '%'")
        bare = [run for run in found if run.data.tags[FOLDS_FINISHED] and NOTE not in run.data.tags]
        for run in bare:
            tags = {**_of_rows(run.data.tags), COLOUR: colour_of(run.data.tags.get("network", ""))}
            latest, _ = self._cells_of(run.data.tags["fingerprint"])
            for cell in latest.values():
                self._writer.tag(cell.info.run_id, {"row": str(run.info.run_name), COLOUR: tags[COLOUR]})
            self._show(run.info.run_id, latest, tags, predictions)  # last, since its note says that all is done
        return len(bare)

    def _cells_of(self, fingerprint: str) -> tuple[dict[int, Run], dict[int, Run]]:
        """The finished runs of a spec by fold: those that are tested, and those that were only tried."""
        children = self._runs(f"attributes.status = 'FINISHED' and tags.fingerprint = '{fingerprint}'")
        tested, tried = (
            {int(r.data.tags["fold"]): r for r in reversed(children) if kind_of(r) == kind and _has_fold(r)}
            for kind in CELLS
        )
        return tested, tried

    def _show(
        self,
        parent_run: str,
        folds: Mapping[int, Run],
        tags: Mapping[str, str],
        predictions: Callable[[str], pd.DataFrame] | None,
    ) -> dict[str, float]:
        """Write the page of a parent run, with these tags, in one call; the figure in another."""
        parent = self._client.get_run(parent_run)
        parent.data.tags.update(tags)
        page = read_page(parent, folds, predictions, self._experiment)
        page.write(self._writer, self._files, parent, tags)
        return page.metrics


def _of_rows(tags: Mapping[str, str]) -> dict[str, str]:
    """The tag by which rows of tables are found: which strategies have the row."""
    found = strategies_of(tags)
    return {"strategy": found} if found else {}


def _age(run: Run) -> tuple[bool, int, str]:
    # A RUNNING parent has just been made, and its driver may still discard it.
    return run.info.status == "RUNNING", run.info.start_time, run.info.run_id


def _has_fold(run: Run) -> bool:
    return str(run.data.tags.get("fold", "")).isdecimal()


def _words(folds: Iterable[int]) -> str:
    return ", ".join(str(fold) for fold in sorted(folds))


def _folds(text: str) -> set[int]:
    # What is no number was damaged: the parent run is summarised anew.
    return {int(fold) for fold in text.split(", ") if fold.isdecimal()}
