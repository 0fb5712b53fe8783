"""keras-tuner as the engine of a study: its oracles propose, cells of the ledger answer.

A study is replayed from its first trial on whenever it is run: what it proposes follows from its seed and the values of
its cells, and what was trained before costs nothing. keras-tuner's own files, which a kill may leave unusable, do not
exist. Of what is kept beside the cells only this counts: which trials failed, so that they are not trained again, and
the epochs that each has taken.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.config.searches import Parameters
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.search.study_store import Kept, StudyStore
from bus_mlops.search.trials import BATCH, Outcome, Trials
from bus_mlops.training.process import without_chatter

if TYPE_CHECKING:
    from bus_mlops.search.oracles import Replayed

LOG = logging.getLogger(__name__)


@dataclass
class _Trial:
    """Parameters and what became of them.

    Attributes:
        asked: The oracle's trials with them: of Hyperband one for each rung.
        epochs: What the latest training has; None for all.
        trained: Epochs trained for it in all.
    """

    number: int
    parameters: Parameters
    asked: list[Any] = field(default_factory=list)
    epochs: int | None = None
    trained: int = 0
    outcome: Outcome = field(default_factory=Outcome)


def run_study(trials: Trials, folder: Path) -> list[TrialRecord]:
    """Run a study, or go on with one that was cut off.

    Args:
        trials: The study.
        folder: Of the journals.

    Returns:
        The trials by number, with those that failed.

    Raises:
        CellsFailedError: Nothing but failures comes.
    """
    return _Study(trials, StudyStore.open(trials, folder)).run()


class _Study:
    def __init__(self, trials: Trials, store: StudyStore) -> None:
        from bus_mlops.search.proposer import distribution

        self._trials = trials
        self._store = store
        self._kept = store.read()
        self._distributions = {path: distribution(dimension) for path, dimension in trials.space.dimensions}
        self._oracle = _oracle(trials)
        self._known: list[_Trial] = []
        self._by_id: dict[str, _Trial] = {}
        self._records: list[TrialRecord] = []

    def run(self) -> list[TrialRecord]:
        """All trials, batch by batch."""
        in_a_row = 0
        while batch := self._ask():
            self._evaluate(batch)
            failed = [trial for trial in batch if trial.outcome.failure]
            in_a_row = in_a_row + len(failed) if len(failed) == len(batch) else 0
            # If nothing ever worked, it is not the parameters.
            worked = any(not trial.outcome.failure for trial in self._known)
            if self._trials.failed is not None and failed and (not worked or in_a_row >= BATCH):
                raise self._trials.failed
            self._record()
        self._record(ended=True)
        wanted, tried = self._trials.wanted, sum(trial.state != "failed" for trial in self._records)
        if tried < wanted:
            self._trials.stopped = f"the space has no more than these {tried} of {wanted} trials"
        return self._records

    def _ask(self) -> list[_Trial]:
        """The next trials, that do not wait for one another."""
        batch = []
        for asked in self._oracle.ask(BATCH):
            values = asked.hyperparameters.values
            trial = self._by_id.get(values.get("tuner/trial_id", ""))
            if trial is None:
                trial = _Trial(len(self._known), self._trials.space.proposal(self._oracle.parameters(asked)))
                self._known.append(trial)
            self._by_id[asked.trial_id] = trial
            trial.asked.append(asked)
            trial.epochs = values.get("tuner/epochs")
            if trial.epochs == self._trials.epochs:
                trial.epochs = None
            batch.append(trial)
        return batch

    def _evaluate(self, batch: list[_Trial]) -> None:
        """Train a batch, those of equal length at once, and tell the oracle."""
        for epochs in sorted({trial.epochs for trial in batch}, key=lambda epochs: epochs or math.inf):
            group = {trial.number: trial for trial in batch if trial.epochs == epochs}
            outcomes = {number: Outcome(failure=why) for number, trial in group.items() if (why := self._failed(trial))}
            left = {number: trial.parameters for number, trial in group.items() if number not in outcomes}
            outcomes |= self._trials.evaluate(left, epochs) if left else {}
            for number, trial in group.items():
                trial.outcome = outcomes[number]
                trial.trained += trial.outcome.epochs
        for trial in batch:
            self._oracle.tell(trial.asked[-1], None if trial.outcome.failure else trial.outcome.values[0])

    def _before(self, trial: _Trial) -> Kept | None:
        """What was kept of a trial, if it was the same one."""
        kept = self._kept.get(trial.number)
        return kept if kept is not None and kept.trial.parameters == trial.parameters else None

    def _failed(self, trial: _Trial) -> str:
        """Why a trial failed at this length in a former run of the study; empty if it did not."""
        kept = self._before(trial)
        failed = kept is not None and kept.trial.state == "failed" and kept.stage == len(trial.asked)
        return kept.trial.reason if kept is not None and failed else ""

    def _record(self, ended: bool = False) -> None:
        """Record the trials that are decided, in the order of their numbers."""
        undecided = set() if ended else self._oracle.undecided()
        for trial in self._known[len(self._records) :]:
            if undecided & {asked.trial_id for asked in trial.asked}:
                return
            pruned = "" if trial.epochs is None else f"others were better after {trial.epochs} epochs"
            before = self._before(trial)
            epochs = trial.trained if before is None else before.trial.epochs
            record = self._trials.record(trial.number, trial.parameters, trial.outcome, pruned=pruned, epochs=epochs)
            if trial.number not in self._kept:
                stage = len(trial.asked) if record.state == "failed" else None
                self._store.append(Kept(record, trial.number, 1, stage), self._distributions, {})
            self._records.append(record)
            self._trials.tell(record)


def _oracle(trials: Trials) -> Replayed:
    with without_chatter():
        from bus_mlops.search import oracles

    settings = trials.plan.settings
    kind = {"random": oracles.Random, "bayesian": oracles.Bayesian, "hyperband": oracles.Hyperband}[settings.sampler]
    more: dict[str, Any] = {}
    if settings.sampler == "hyperband":
        more["epochs"] = trials.epochs
        if trials.epochs < oracles.FACTOR:
            LOG.warning(
                "[search] Hyperband's trials have %d epochs, of which %d are the least that it divides: "
                "none is stopped early. Set epochs of the search",
                trials.epochs,
                oracles.FACTOR,
            )
    oracle: Replayed = kind(
        oracles.Dimensions(dict(trials.space.dimensions)),
        trials.start.first,
        trials=trials.wanted,
        direction=trials.directions[0],
        seed=trials.seed(),
        **more,
    )
    return oracle
