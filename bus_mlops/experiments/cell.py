"""A cell (one spec on one fold) and the job it belongs to: plain values that any engine can send anywhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import RunError
from bus_mlops.paths import EXTENSIONS
from bus_mlops.spec import LedgerKey, RunSpec
from bus_mlops.tracking.kinds import FOLD, TRIED
from bus_mlops.training.kept_states import KeptStates

# In place of a fold: trained on all images of the folds, without validation and test part, for a package.
REFIT = 0
# Of the names of metrics: those of the validation part, with the weights that were kept.
VALIDATION_PREFIX = "validation_best_"


@dataclass(frozen=True)
class Cell:
    """One training: a spec and a fold of it.

    Attributes:
        fold: From 1, or REFIT.
        leaks: How many leakage groups its folds tear apart, as tags: between test and the rest (`leaks`), between
            validation and train (`validation_leaks`).
        tried: Of a trial: trained as always, and no test image is predicted. Its key is that of the ordinary cell.

    Raises:
        RunError: An inner fold is to be tested, or a refit tried.
    """

    spec: RunSpec
    fold: int
    fingerprint: str
    parent_run: str
    title: str
    data_digest: str
    folds_digest: str
    leaks: dict[str, str] = field(default_factory=dict)
    tried: bool = False

    def __post_init__(self) -> None:
        inner = self.spec.inner
        if inner is not None and not self.tried:
            raise RunError(
                f"{self.title}: inner fold {inner.fold} of {inner.count} divides what fold {self.fold} trains and "
                "validates on: it is for trials only, which predict no test image. Ask for tried cells, or take "
                "`inner` out of the spec."
            )
        if self.tried and self.is_refit:
            raise RunError(f"{self.title}: a refit has no validation part, so it cannot be tried. Name a fold.")

    @property
    def key(self) -> LedgerKey:
        """What the ledger knows the cell by."""
        return LedgerKey(self.fingerprint, self.fold)

    @property
    def kind(self) -> str:
        """The kind of its run."""
        return TRIED if self.tried else FOLD

    @property
    def is_refit(self) -> bool:
        """Whether it is trained on all images instead of a fold's."""
        return self.fold == REFIT

    @property
    def scope(self) -> str:
        """Which images it is trained on, for people."""
        if self.is_refit:
            return "all images"
        inner = self.spec.inner
        return f"fold {self.fold}" + (f", inner {inner.fold} of {inner.count}" if inner is not None else "")

    @property
    def run_name(self) -> str:
        """What its run is called in the ledger."""
        return f"{self.title} / {self.scope}{' (tried)' if self.tried else ''}"

    @property
    def seed(self) -> int:
        """A seed of its own for every (spec seed, fold, inner fold); shared by specs, so that they start alike."""
        inner = "" if self.spec.inner is None else f"/{self.spec.inner.fold}"
        text = f"{self.spec.seed}/{self.fold}{inner}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % (2**31)


@dataclass(frozen=True)
class Job:
    """What all cells of a call share: where the data lies, where runs and checkpoints go, how many threads, who asks.

    Attributes:
        driver: Names the process that gave the cells out.
        identity: Identifies it; runs of the same driver never compete for a cell.
        intent: Tags of the runs of cells alone, since others live longer: on what terms they are to be judged.
        extensions: The folder of the user's own networks.
        tags: Those of every run.
    """

    benchmark: Path
    folds: Path
    tracking: TrackingConfig
    checkpoints: Path
    weights_folder: Path | None
    threads: int
    driver: str
    extensions: Path = EXTENSIONS
    tags: dict[str, str] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    intent: dict[str, str] = field(default_factory=dict)

    def states(self, cell: Cell) -> KeptStates:
        """What shorter trials of a cell's course have left for it."""
        return KeptStates(self.checkpoints, cell.spec.course(cell.data_digest, cell.folds_digest), cell.fold)

    def run_tags(self, cell: Cell) -> dict[str, str]:
        """The tags of a cell's run."""
        return {
            "kind": cell.kind,
            "fingerprint": cell.fingerprint,
            "fold": str(cell.fold),
            "data_digest": cell.data_digest,
            "folds_digest": cell.folds_digest,
            **cell.leaks,
            "network": cell.spec.network,
            "row": cell.title,
            "driver": self.driver,
            **self.identity,
            **self.intent,
            **self.tags,
        }


@dataclass(frozen=True)
class CellEvent:
    """News of a cell.

    Attributes:
        kind: started, note (words about it, after so many epochs), epoch, lost (its worker died, it is begun again),
            finished, failed, or elsewhere (another process is training it).
        message: Words for people; of `elsewhere`, which process.
    """

    kind: str
    fingerprint: str
    fold: int
    worker: int = 0
    epoch: int = 0
    epochs: int = 0
    values: dict[str, float] = field(default_factory=dict)
    run_id: str = ""
    message: str = ""

    @property
    def key(self) -> LedgerKey:
        """What the ledger knows the cell by."""
        return LedgerKey(self.fingerprint, self.fold)

    @property
    def is_last(self) -> bool:
        """Whether the engine is done with the cell."""
        return self.kind in ("finished", "failed", "elsewhere")
