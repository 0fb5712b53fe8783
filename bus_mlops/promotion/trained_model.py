"""A model as the gate sees it: the recorded runs of all its folds and seeds, their predictions, their lineage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from bus_mlops.errors import LedgerError
from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.files import sha256_file
from bus_mlops.gate.comparison import NO_LEAKS, Lineage
from bus_mlops.spec import CellKey, RunSpec
from bus_mlops.tracking.kinds import DISCARDED, FOLD, TUNED
from bus_mlops.tracking.ledger import PREDICTIONS, Ledger
from bus_mlops.tracking.params import nested

if TYPE_CHECKING:
    from mlflow.entities import Run


# Of a strategy that holds what a search has chosen: `tuned-NAME`; `tuned` of an earlier version, whose one was flat.
TUNED_STRATEGY = "tuned"


class RecordedChoice(BaseModel):
    """How the parameters of a model were chosen, as evidence keeps it.

    `fixed`: by nobody, they stand in params.yaml. `nested`: by a search, for each fold on images outside its test part.
    `flat`: by a search, on images that are tested on. `result` is what the search recorded of this network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: Literal["fixed", "nested", "flat"]
    search: str = ""
    result: SearchResult | None = None


@dataclass(frozen=True)
class TrainedModel:
    """A trained model: the run of each (fold, seed), seed by seed, the predictions of all, and where they come from.

    Attributes:
        fingerprints: What each run computes; of a model whose parameters were chosen for each fold they may differ by
            fold, too.
        digests: The sha256 of each run's predictions.
        files: The sha256 of every file of each run, as on its record.
        strategies: All that have asked for every one of its runs.
        choice: How its parameters were chosen; None where nobody has looked (`choices.with_choice`).
    """

    title: str
    strategy: str
    network: str
    input_size: int
    fingerprints: Mapping[CellKey, str]
    runs: Mapping[CellKey, str]
    digests: Mapping[str, str]
    files: Mapping[str, Mapping[str, str]]
    predictions: pd.DataFrame
    lineage: Lineage
    strategies: tuple[str, ...] = ()
    choice: RecordedChoice | None = None

    @property
    def distinct_fingerprints(self) -> tuple[str, ...]:
        """What its runs compute, each once: one a seed, or more where the folds differ."""
        return tuple(dict.fromkeys(self.fingerprints[cell] for cell in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the spec that it was trained with, ascending."""
        return tuple(sorted({cell.seed for cell in self.runs}))

    def part(self, name: str, cell: CellKey | None = None) -> pd.DataFrame:
        """Its predictions of one part, test or validation; of one cell if asked for."""
        chosen = self.predictions["part"] == name
        if cell is not None:
            chosen &= (self.predictions["seed"] == cell.seed) & (self.predictions["fold"] == cell.fold)
        return self.predictions[chosen]

    def only(self, seeds: Iterable[int]) -> TrainedModel:
        """The same model restricted to some of its seeds."""
        kept = set(seeds)
        return replace(
            self,
            fingerprints={cell: value for cell, value in self.fingerprints.items() if cell.seed in kept},
            runs={cell: run for cell, run in self.runs.items() if cell.seed in kept},
            predictions=self.predictions[self.predictions["seed"].isin(kept)].reset_index(drop=True),
        )


def find_trained_model(ledger: Ledger, run_id: str) -> TrainedModel:
    """The model behind a recorded run: a spec's run or one of its folds' runs, with all seeds of that spec.

    Seeds are other recorded specs on the same images and folds that differ in the seed alone. The run of a row that a
    search has tuned leads to what was chosen for each fold.

    Raises:
        LedgerError: The run is not in the store, is no training on folds, or has no finished fold.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = ledger.client.get_run(run_id)
        if run.data.tags.get("kind") == TUNED:
            return find_model_by_fold(ledger, _tuned_runs(ledger, run))
        # What was forgotten (`bus-mlops repair`) leads to the runs that took its place.
        if run.data.tags.get("kind") in (FOLD, DISCARDED) and "mlflow.parentRunId" in run.data.tags:
            run = ledger.client.get_run(run.data.tags["mlflow.parentRunId"])
    except MlflowException as error:
        raise LedgerError(
            f"run {run_id} is not in the store: give the id of a run of the experiment, as `make ui` shows it."
        ) from error
    if run.data.tags.get("kind") != "spec":
        raise LedgerError(
            f"run {run_id} is no training on folds: give the id of a spec's run, of one of its folds' runs, or of the "
            "tuned row of a search."
        )
    prints = {sibling.data.tags["fingerprint"] for sibling in _siblings(ledger, run)}
    finished = {key: found for key, found in ledger.finished().items() if key[0] in prints}
    if not finished:
        raise LedgerError(f"{run.info.run_name} has no finished fold: train it first (`dvc repro`).")
    return read_trained_model(ledger, [found for _, found in sorted(finished.items())])


def find_model_by_fold(ledger: Ledger, runs: Mapping[int, str]) -> TrainedModel:
    """The model whose parameters may differ from fold to fold, with all seeds that every fold's spec is recorded with.

    Args:
        ledger: Of the runs.
        runs: Fold (1-based) -> one run of it, of any seed.
    """
    finished = ledger.finished()
    found: list[str] = []
    prints: dict[str, set[str]] = {}
    for fold, run_id in sorted(runs.items()):
        parent = ledger.client.get_run(run_id).data.tags["mlflow.parentRunId"]
        if parent not in prints:
            siblings = _siblings(ledger, ledger.client.get_run(parent))
            prints[parent] = {sibling.data.tags["fingerprint"] for sibling in siblings}
        found += [
            run for key, run in sorted(finished.items()) if key.fold == fold and key.fingerprint in prints[parent]
        ]
    return read_trained_model(ledger, found)


def read_trained_model(ledger: Ledger, run_ids: Sequence[str]) -> TrainedModel:
    """A model from the runs of its folds, exactly those.

    Raises:
        LedgerError: One is gone or differs.
    """
    runs = [ledger.client.get_run(run_id) for run_id in run_ids]
    for run in runs:
        if run.info.lifecycle_stage == "deleted":
            raise LedgerError(
                f"run {run.info.run_id} ({run.info.run_name}) was deleted: `mlflow runs restore --run-id "
                f"{run.info.run_id}` brings it back."
            )
    # Seed by seed: what digests of evidence are computed over has an order.
    cells = dict(sorted(((_cell(run), run) for run in runs), key=lambda item: (item[0].seed, item[0].fold)))
    first, tags = runs[0], [run.data.tags for run in runs]
    for key in ("network", "data_digest", "folds_digest"):
        if len({each.get(key) for each in tags}) > 1:
            raise LedgerError(f"runs {run_ids[0]} and others differ in {key}: they are not folds of one model.")
    parents = [ledger.client.get_run(each) for each in dict.fromkeys(each["mlflow.parentRunId"] for each in tags)]
    strategies = sorted(set.intersection(*(_strategies(parent) for parent in parents)))
    strategy, parent = strategies[-1] if strategies else "recorded", parents[0]
    # A search may have begun the run: the name that a strategy's table gives it comes first.
    title = parent.data.tags.get(f"strategy.{strategy}", str(parent.info.run_name))
    frames, digests = [], {}
    with tempfile.TemporaryDirectory(prefix="bus-gate-") as folder:
        for cell, run in cells.items():
            path = ledger.artifact(run.info.run_id, PREDICTIONS, Path(folder))
            digests[run.info.run_id] = sha256_file(path)
            frames.append(pd.read_csv(path).assign(seed=cell.seed))
    predictions = pd.concat(frames, ignore_index=True).assign(strategy=strategy, model=title, variant="")
    return TrainedModel(
        title=title,
        strategy=strategy,
        network=str(first.data.tags["network"]),
        input_size=int(first.data.params["training.input_size"]),
        fingerprints={cell: run.data.tags["fingerprint"] for cell, run in cells.items()},
        runs={cell: run.info.run_id for cell, run in cells.items()},
        digests=digests,
        files={run.info.run_id: ledger.artifact_digests(run.info.run_id) for run in runs},
        predictions=predictions,
        lineage=_lineage(tags),
        strategies=tuple(strategies),
    )


def with_common_seeds(
    models: Sequence[TrainedModel], folds: Sequence[int]
) -> tuple[list[TrainedModel], tuple[str, ...]]:
    """The same models on the seeds that all of them finished on all `folds`, and a note on those left out.

    Where no seed is common they are returned as they are: the gate's integrity rule then says what is missing.
    """
    complete = [{seed for seed in c.seeds if all(CellKey(fold, seed) in c.runs for fold in folds)} for c in models]
    common = set.intersection(*complete)
    unfinished = sorted({seed for c in models for seed in c.seeds} - common)
    if not common or not unfinished:
        return list(models), ()
    note = f"Seeds that not every model finished on all folds were left out: {', '.join(map(str, unfinished))}."
    return [c.only(common) for c in models], (note,)


def _strategies(parent: Run) -> set[str]:
    return {key.removeprefix("strategy.") for key in parent.data.tags if key.startswith("strategy.")}


def _tuned_runs(ledger: Ledger, run: Run) -> dict[int, str]:
    """Fold -> one of the runs that the row of a search was made of."""
    ids = run.data.tags.get("tuned.runs", "").split(", ")
    if ids == [""]:
        raise LedgerError(f"run {run.info.run_id} does not name the runs of its folds: run `dvc repro` again.")
    return {_cell(found).fold: str(found.info.run_id) for found in map(ledger.client.get_run, ids)}


def _siblings(ledger: Ledger, parent: Run) -> list[Run]:
    tags = parent.data.tags
    query = " and ".join(
        f"tags.{key} = '{tags.get(key, '')}'" for key in ("kind", "network", "data_digest", "folds_digest")
    )
    wanted = _without_seed(parent)
    return [run for run in ledger.runs(query) if _without_seed(run) == wanted]


def _without_seed(run: Run) -> dict[str, Any]:
    values = nested(run.data.params)
    with suppress(ValidationError):  # of another version, whose runs are each other's siblings only
        values = RunSpec.model_validate(values).canonical()  # what came later is no difference where it does nothing
    return {key: value for key, value in values.items() if key != "seed"}


def _cell(run: Run) -> CellKey:
    return CellKey(fold=int(run.data.tags["fold"]), seed=int(run.data.params["seed"]))


def _lineage(tags: Sequence[Mapping[str, str]]) -> Lineage:
    leaks = sorted({each.get("leaks", "not recorded") for each in tags} - {NO_LEAKS})
    # runs of earlier versions counted both in `leaks`
    validation_leaks = sorted({each.get("validation_leaks", NO_LEAKS) for each in tags} - {NO_LEAKS})
    clean = {each.get("git_clean", "unknown") for each in tags}
    return Lineage(
        data_digest=tags[0]["data_digest"],
        folds_digest=tags[0]["folds_digest"],
        folds_kind=tags[0].get("folds_kind", "not recorded"),
        leaks=", ".join(leaks) or NO_LEAKS,
        validation_leaks=", ".join(validation_leaks) or NO_LEAKS,
        git_clean=next((state for state in ("unknown", "no") if state in clean), "yes"),
        commits=tuple(sorted({each.get("mlflow.source.git.commit", "none") for each in tags})),
        git_reason=next((each["git_reason"] for each in tags if "git_reason" in each), ""),
    )
