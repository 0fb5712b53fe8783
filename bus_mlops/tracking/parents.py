"""Parent runs: one a spec, found or made, and closed with mean, deviation and interval over its folds."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from bus_mlops.errors import BusMlopsError
from bus_mlops.evaluation.intervals import FoldDraws
from bus_mlops.evaluation.metrics import METRICS, interval_metrics
from bus_mlops.spec import RunSpec
from bus_mlops.tracking.kinds import CELLS, kind_of
from bus_mlops.tracking.params import flatten
from bus_mlops.tracking.run_writer import RunWriter
from bus_mlops.tracking.search import search_all

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOGGER = logging.getLogger(__name__)

# Up to so many fingerprints are asked for one by one; for more of them everything is read once, at 3 ms a run.
FEW = 50
# Tags of a parent run: the folds with test predictions, and those that trials were trained on.
FOLDS_FINISHED, FOLDS_TRIED = "folds_finished", "folds_tried"


class ParentRuns:
    """The parent runs of an experiment."""

    def __init__(self, client: MlflowClient, writer: RunWriter, experiment: str) -> None:
        self._client = client
        self._writer = writer
        self._experiment = experiment
        self._parents: dict[str, Run] = {}
        self._lookups = 0
        # By fingerprint, of parents that are FINISHED: the folds that are tested, and those that were at least tried.
        self._complete: dict[str, tuple[set[int], set[int]]] = {}

    def find_or_create(
        self, spec: RunSpec, fingerprint: str, title: str, tags: Mapping[str, str], kind: str = "spec"
    ) -> str:
        """The id of the parent run of a fingerprint, created when it is new; tags are added to it.

        `kind` is "spec", whose children are folds, or "refit", which no comparison of folds may meet.
        """
        found = self._parent(fingerprint, kind)
        if found is not None:
            return self._join(found, tags)
        fixed = {"kind": kind, "fingerprint": fingerprint, "network": spec.network, **tags}
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

    def _join(self, parent: Run, tags: Mapping[str, str]) -> str:
        """Add what is new among these tags to a parent run; returns its id."""
        new = {name: value for name, value in tags.items() if parent.data.tags.get(name) != value}
        if new:
            self._writer.tag(parent.info.run_id, new)
            parent.data.tags.update(new)
        return str(parent.info.run_id)

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
        """Write mean, standard deviation and interval over the finished folds on the parent run and close it.

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
            What was written: `<metric>_mean`, `<metric>_std` of more than one fold, and the ends of the mean's 95 %
            interval, `<metric>_low` and `<metric>_high`.
        """
        children = self._runs(f"attributes.status = 'FINISHED' and tags.fingerprint = '{fingerprint}'")
        latest, only_tried = (
            {int(r.data.tags["fold"]): r for r in reversed(children) if kind_of(r) == kind and _has_fold(r)}
            for kind in CELLS
        )
        values = spread(run.data.metrics for run in latest.values())
        if predictions is not None and latest:
            try:
                values |= intervals({fold: predictions(run.info.run_id) for fold, run in latest.items()})
            except (BusMlopsError, ValueError, KeyError) as error:  # what is damaged is told where it is collected
                LOGGER.warning("Parent run %s has no intervals: %s", parent_run, error)
        tags = {FOLDS_FINISHED: _words(latest), **({FOLDS_TRIED: _words(only_tried)} if only_tried else {})}
        self._writer.write(parent_run, metrics=values, tags=tags)
        there = set(latest), {*latest, *only_tried}
        complete = set(folds) <= there[0] and set(tried) <= there[1]
        self._client.set_terminated(parent_run, "FINISHED" if complete else "FAILED")
        self._complete[fingerprint] = there if complete else (set(), set())
        return values


_CURVE_METRICS = frozenset({"loss", "validation_loss", "validation_roc_auc", "seconds"})


def spread(runs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """`<metric>_mean` of the metrics of runs, and `<metric>_std` of more than one; without those of single epochs."""
    every = list(runs)
    values: dict[str, float] = {}
    for name in sorted({name for metrics in every for name in metrics} - _CURVE_METRICS):
        column = [metrics[name] for metrics in every if name in metrics and not math.isnan(metrics[name])]
        if column:
            values[f"{name}_mean"] = statistics.fmean(column)
        if len(column) > 1:
            values[f"{name}_std"] = statistics.stdev(column)
    return values


def intervals(predictions: Mapping[int, pd.DataFrame]) -> dict[str, float]:
    """`<metric>_low` and `<metric>_high`, the 95 % interval of the mean over folds, where there is one.

    Args:
        predictions: Those of each fold's run.
    """
    import pandas as pd

    frame = pd.concat([each[each["part"] == "test"].assign(fold=fold) for fold, each in predictions.items()])
    draws = FoldDraws.of(frame.drop(columns="seed", errors="ignore"))
    values: dict[str, float] = {}
    for name in interval_metrics():
        if METRICS[name].of_masks or frame["probability"].notna().all():
            found = draws.interval(name)
            values |= {f"{name}_low": found.low, f"{name}_high": found.high}
    return {name: value for name, value in values.items() if not math.isnan(value)}


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
