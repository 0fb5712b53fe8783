"""The trials of a study, whatever engine proposes them: from parameters to values on validation.

A study for a test fold sees the train and validation images of that fold and nothing else: its trials are cells on that
fold, read on their validation predictions.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from bus_mlops.config.searches import Parameters
from bus_mlops.dataset.folds.assignment import TEST, TRAIN, VALIDATION
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.errors import BusMlopsError, EvaluationError, LeakageError
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.search_words import fold_words, words
from bus_mlops.evaluation.searched import FLAT, SearchResult, TrialRecord
from bus_mlops.experiments.cell import Cell, CellEvent
from bus_mlops.experiments.failures import CellsFailedError
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.search_plan import SearchPlan, SearchStart
from bus_mlops.spec import Inner, LedgerKey, RunSpec

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)

# Trials asked for at a time: fixed, so that results do not depend on the number of workers.
BATCH = 4


class Step(NamedTuple):
    """One training of a trial: a fold (1-based), which inner fold of it validates (1-based, 0: none), and a seed."""

    fold: int
    inner: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a trial, on the steps and epochs that were asked for.

    Attributes:
        values: Of each objective (fraction), the mean over the steps; none of a trial that failed.
        steps: The first objective on each step.
        constraints: The mean of each metric under a constraint.
        runs: The ids of its runs, a step each.
        epochs: Trained for it by this call.
        failure: Why a step of it could not be trained; empty if all were.
    """

    values: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    constraints: Mapping[str, float] | None = None
    runs: tuple[str, ...] = ()
    epochs: int = 0
    failure: str = ""


class Watcher(Protocol):
    """Is told how a search goes; told again what it knows whenever a search is resumed."""

    def started(self, study: Trials) -> None:
        """A study begins, or goes on."""

    def told(self, trial: TrialRecord) -> None:
        """A trial is complete, pruned or failed; in order of number within a study."""

    def chosen(self, result: SearchResult) -> None:
        """The search has ended."""


class Trials:
    """The trials of one study, whatever engine proposes them: from parameters to values on validation.

    Attributes:
        fold: The test fold (1-based) that the study chooses for; FLAT if it is not nested.
        failed: The latest failure, for an engine that gives up.
        stopped: Why the study ended before all trials; empty if it did not. The engine sets it.
    """

    def __init__(
        self, runner: Runner, plan: SearchPlan, start: SearchStart, fold: int, watchers: Sequence[Watcher] = ()
    ) -> None:
        self.runner = runner
        self.plan = plan
        self.start = start
        self.fold = fold
        self.space = plan.space(start)
        self.failed: BusMlopsError | None = None
        self.stopped = ""
        self._watchers = watchers
        self._read: dict[str, pd.DataFrame] = {}

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The trainings of a whole trial: of each seed, each inner fold, or each fold of a flat search."""
        settings = self.plan.settings
        folds = (self.fold,) if self.fold != FLAT else self.plan.flat_folds
        inner = range(1, settings.inner_folds + 1) if settings.inner_folds else (0,)
        seeds = range(self.plan.seed, self.plan.seed + settings.seeds)
        return tuple(Step(fold, part, seed) for seed in seeds for fold in folds for part in inner)

    @property
    def epochs(self) -> int:
        """The epochs of a whole trial, if its parameters do not say."""
        return self.plan.settings.epochs or self.start.start.training.epochs

    @property
    def directions(self) -> tuple[int, ...]:
        """1 or -1 for each objective: whether more or less is better."""
        return tuple(METRICS[name].direction for name in self.plan.settings.objective)

    @cached_property
    def wanted(self) -> int:
        """How many trials are asked for; those that fail do not count."""
        return self.plan.trials(self.start)

    def grid(self) -> list[Parameters]:
        """All cells of the space, the first trial's in front."""
        first = dict(self.start.first)
        return [first, *(cell for cell in self.space.grid() if dict(cell) != first)]

    @cached_property
    def name(self) -> str:
        """The study's name: the same for what can go on where another left off, another for anything else."""
        # Without what leaves the trials as they are, such as which other networks are searched.
        settings = self.plan.settings.model_dump(mode="json", exclude={"network", "trials", "standard_errors", "stop"})
        values = {
            "settings": settings,
            "fingerprint": self.start.start.fingerprint(*self.runner.digests(self.start.start)),
            "first": dict(self.start.first),
            "seed": self.plan.seed,
        }
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
        scope = "flat" if self.fold == FLAT else f"fold{self.fold}"
        return f"{self.plan.name}-{self.start.network}-{scope}-{digest}"

    def seed(self) -> int:
        """Of what proposes trials: another for each network and fold."""
        text = f"{self.plan.seed}/{self.start.network}/{self.fold}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def spec(self, parameters: Parameters, step: Step, epochs: int | None = None) -> RunSpec:
        """What a trial trains on a step; for fewer epochs if asked for."""
        spec = self.space.spec(parameters)
        if "epochs" not in parameters:
            spec = spec.model_copy(
                update={"training": spec.training.model_copy(update={"epochs": epochs or self.epochs})}
            )
        inner = self.plan.settings.inner_folds
        where = {"inner": Inner(fold=step.inner, count=inner)} if inner else {}
        return spec.model_copy(update={"seed": step.seed, **where})

    def cells(
        self, parameters: Parameters, epochs: int | None = None, steps: Iterable[int] | None = None
    ) -> list[Cell]:
        """The cells of a trial, one a step, in order; no test prediction comes of them."""
        chosen = self.steps if steps is None else [self.steps[number] for number in steps]
        title = f"{self.start.title} trial: {words(parameters)}"
        tags = {f"search.{self.plan.name}": title}
        return [
            cell
            for step in chosen
            for cell in self.runner.cells(self.spec(parameters, step, epochs), (step.fold,), title, tags, tried=True)
        ]

    def evaluate(
        self, batch: Mapping[int, Parameters], epochs: int | None = None, steps: Sequence[int] | None = None
    ) -> dict[int, Outcome]:
        """Train what is missing of some trials, all at once, and read their validation predictions.

        Args:
            batch: Number -> parameters.
            epochs: Of each training; None for all.
            steps: Numbers of `self.steps`; None for all.

        Returns:
            Number -> outcome; a trial one of whose cells failed has a `failure`.
        """
        cells = {number: self.cells(parameters, epochs, steps) for number, parameters in batch.items()}
        wanted = [cell for own in cells.values() for cell in own]
        new = {cell.key for cell in self.runner.missing(wanted)}
        failed: Mapping[LedgerKey, CellEvent] = {}
        try:
            runs = self.runner.run(wanted, f"search {self.plan.name}")
        except CellsFailedError as error:
            LOG.warning("[search] %s", error)
            self.failed, failed, runs = error, error.failed, dict(error.finished)
        return {number: self._outcome(own, runs, new, failed) for number, own in cells.items()}

    def _outcome(
        self,
        cells: Sequence[Cell],
        runs: Mapping[LedgerKey, str],
        new: set[LedgerKey],
        failed: Mapping[LedgerKey, CellEvent],
    ) -> Outcome:
        trained = [runs[cell.key] for cell in cells if cell.key in new and cell.key in runs]
        epochs = sum(self.runner.ledger.epochs_trained(trained).values())
        lost = [f"{cell.scope}: {failed[cell.key].message}" for cell in cells if cell.key in failed]
        if lost:
            return Outcome(epochs=epochs, failure="; ".join(lost))
        settings = self.plan.settings
        ids = tuple(runs[cell.key] for cell in cells)
        try:
            measured = {name: self._measured(name, ids) for name in (*settings.objective, *settings.constraint)}
        except EvaluationError as error:  # such as a network that predicts no number
            self.failed = error
            return Outcome(runs=ids, epochs=epochs, failure=str(error))
        means = {name: float(np.mean(values)) for name, values in measured.items()}
        return Outcome(
            values=tuple(means[name] for name in settings.objective),
            steps=measured[settings.objective[0]],
            constraints={name: means[name] for name in settings.constraint},
            runs=ids,
            epochs=epochs,
        )

    def _measured(self, metric: str, runs: Iterable[str]) -> tuple[float, ...]:
        """A metric (fraction) on each run's validation part: from its predictions, which are what counts."""
        values = []
        for run_id in runs:
            part = self.validation(run_id)
            values.append(METRICS[metric].value(part["label"].to_numpy(), part["probability"].to_numpy()))
            if not math.isfinite(values[-1]):
                raise EvaluationError(
                    f"{metric} of the validation part of run {run_id} is {values[-1]}: its images are of one "
                    "class, or the network predicts no number. Name another objective, or validate on more images."
                )
        return tuple(values)

    def validation(self, run_id: str) -> pd.DataFrame:
        """The validation predictions of a run: image_id, label, probability, leakage group.

        Raises:
            DamagedRunError: The files of the run are not what it recorded.
            LeakageError: It validated on images that are tested in the fold that the study chooses for.
        """
        if run_id not in self._read:
            predictions = self.runner.ledger.predictions(run_id)
            # A run that a table trained has its test part too, at which no search looks.
            part = predictions[predictions["part"] == VALIDATION].reset_index(drop=True)
            leaked = self._tested.intersection(part["image_id"])
            if leaked:
                raise LeakageError(
                    f"run {run_id} validated on {len(leaked)} images (such as {min(leaked)}) that are tested in fold "
                    f"{self.fold}, for which the study {self.name} chooses: nothing is chosen. Is data/folds/folds.csv "
                    "what `dvc repro folds` wrote?"
                )
            self._read[run_id] = part
        return self._read[run_id]

    @cached_property
    def _tested(self) -> frozenset[str]:
        """The test part of the fold that is chosen for, as it is on disk; a flat choice has none that is spared."""
        if self.fold == FLAT:
            return frozenset()
        frame = self.runner.folds.frame
        return frozenset(frame.loc[frame[f"fold_{self.fold}"] == TEST, "image_id"])

    def record(
        self, number: int, parameters: Parameters, outcome: Outcome, *, pruned: str = "", epochs: int | None = None
    ) -> TrialRecord:
        """An outcome as the record of its trial.

        Args:
            number: Of the trial.
            parameters: What it tried.
            outcome: What became of it.
            pruned: Why it was pruned; empty if it was not.
            epochs: Trained for it in all; None for those of the outcome.
        """
        return TrialRecord(
            network=self.start.network,
            fold=self.fold,
            number=number,
            parameters=dict(parameters),
            state="failed" if outcome.failure else "pruned" if pruned else "complete",
            values=outcome.values,
            steps=outcome.steps,
            constraints=dict(outcome.constraints or {}),
            epochs=outcome.epochs if epochs is None else epochs,
            runs=outcome.runs,
            reason=outcome.failure or pruned,
        )

    def tell(self, trial: TrialRecord) -> None:
        """Tell those who watch of a trial, and a line of it to the log."""
        objective = " ".join(
            f"{name} {value:.3f}" for name, value in zip(self.plan.settings.objective, trial.values, strict=False)
        )
        LOG.info(
            "[search] %s, trial %d of %d: %s: %s",
            f"{self.start.network} for {fold_words(self.fold)}",
            trial.number + 1,
            self.wanted,
            words(trial.parameters),
            f"validation {objective}" + (" (pruned)" if trial.state == "pruned" else "") if objective else trial.state,
        )
        for watcher in self._watchers:
            watcher.told(trial)

    def images(self) -> list[str]:
        """The ids of all images that the study trains or validates on, sorted: of none of them is it the test part."""
        spec = self.start.start
        used: set[str] = set()
        for fold in {step.fold for step in self.steps}:
            parts = parts_of(self.runner.folds.frame, fold, spec.cohort, spec.training.validation)
            used |= set(parts.index[parts.isin([TRAIN, VALIDATION])])
        return sorted(used)
