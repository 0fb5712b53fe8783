"""Searches without TensorFlow and without a store: a runner that records what it is asked to train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from bus_mlops.config.searches import Search
from bus_mlops.experiments.cell import Cell, CellEvent
from bus_mlops.experiments.failures import CellsFailedError
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.search_plan import SearchPlan, SearchStart
from bus_mlops.spec import LedgerKey, RunSpec

IMAGES = 80


def called_right(images: int) -> pd.DataFrame:
    """Validation predictions of 80 images, of which so many are called right: a balanced accuracy of images / 80."""
    label = np.arange(IMAGES) % 2
    probability = np.where(np.arange(IMAGES) < images, label, 1 - label)
    return pd.DataFrame(
        {
            "part": "validation",
            "image_id": [f"i{number}" for number in range(IMAGES)],
            "label": label,
            "group": [f"g{number // 2}" for number in range(IMAGES)],
            "probability": probability.astype(float),
        }
    )


def folds_frame(folds: int = 3, groups: int = 24) -> pd.DataFrame:
    """Grouped folds of one source: two images a group, one group in `folds` tests, the next one validates."""
    number = np.arange(2 * groups)
    group = number // 2
    frame = pd.DataFrame(
        {
            "image_id": [f"busi/{each:03}" for each in number],
            "source": "busi",
            "label": number % 4 // 2,
            "case_id": [f"busi/c{each:03}" for each in group],
            "group": [f"g{each:03}" for each in group],
        }
    )
    for fold in range(1, folds + 1):
        place = (group // 2 - fold) % folds
        frame[f"fold_{fold}"] = np.where(place == 0, "test", np.where(place == 1, "validation", "train"))
    return frame


@dataclass
class RecordedRunner:
    """Stands in for a `Runner`: what is asked for is finished at once, and nothing but trials may be asked for.

    Attributes:
        right: How many of 80 validation images a cell calls right.
        fails: Whether a cell cannot be trained.
        finished: What the ledger has.
        asked: The cells of each call of `run`.
        forgotten: Specs and folds whose kept states were deleted.
    """

    right: Callable[[Cell], int] = lambda cell: 60
    fails: Callable[[Cell], bool] = lambda cell: False
    frame: pd.DataFrame = field(default_factory=folds_frame)
    finished: dict[LedgerKey, Cell] = field(default_factory=dict)
    asked: list[list[Cell]] = field(default_factory=list)
    studies: str | None = None
    forgotten: list[tuple[RunSpec, int]] = field(default_factory=list)

    @property
    def config(self) -> Any:
        return SimpleNamespace(tracking=SimpleNamespace(studies=self.studies))

    @property
    def folds(self) -> Any:
        return SimpleNamespace(frame=self.frame)

    @property
    def ledger(self) -> RecordedRunner:
        return self

    def digests(self, spec: RunSpec) -> tuple[str, str]:
        return "data", "folds"

    def cells(
        self, spec: RunSpec, folds: Sequence[int], title: str, tags: Mapping[str, str], tried: bool = False
    ) -> list[Cell]:
        fingerprint = spec.fingerprint(*self.digests(spec))
        return [Cell(spec, fold, fingerprint, "parent", title, "data", "folds", tried=tried) for fold in folds]

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if cell.key not in self.finished]

    def run(self, cells: Sequence[Cell], name: str) -> dict[LedgerKey, str]:
        assert all(cell.tried for cell in cells)
        self.asked.append(list(cells))
        failed = {}
        for cell in {cell.key: cell for cell in self.missing(cells)}.values():
            if self.fails(cell):
                failed[cell.key] = CellEvent("failed", *cell.key, message="the loss diverged")
            else:
                self.finished[cell.key] = cell
        ids = {cell.key: self.run_id(cell) for cell in cells if cell.key in self.finished}
        if failed:
            raise CellsFailedError(f"{len(failed)} of {len(cells)} runs of {name} failed", failed, ids)
        return ids

    def forget_states(self, trials: Iterable[tuple[RunSpec, int]]) -> None:
        self.forgotten += trials

    @staticmethod
    def run_id(cell: Cell) -> str:
        return f"{cell.fingerprint[:16]}-{cell.fold}"

    def predictions(self, run_id: str) -> pd.DataFrame:
        cell = next(each for each in self.finished.values() if self.run_id(each) == run_id)
        return called_right(self.right(cell))

    def epochs_trained(self, run_ids: Sequence[str]) -> dict[str, int]:
        cells = {self.run_id(cell): cell for cell in self.finished.values()}
        return {run_id: cells[run_id].spec.training.epochs for run_id in run_ids}

    @property
    def as_runner(self) -> Runner:
        return cast(Runner, self)


def plan_of(
    spec: RunSpec, first: Mapping[str, Any], *, folds: Sequence[int] = (1, 2, 3), **settings: Any
) -> SearchPlan:
    """The plan of a search that starts from a spec; `settings` are those of `searches.NAME` in params.yaml."""
    search = Search.model_validate({"network": spec.network, "strategy": "approaches", **settings})
    start = SearchStart(network=spec.network, start=spec, first=dict(first), title=spec.network)
    return SearchPlan(name="tried", settings=search, networks=(start,), folds=tuple(folds), seed=5)
