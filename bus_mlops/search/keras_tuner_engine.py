"""keras-tuner as the engine of a study: its oracles propose, cells of the ledger answer.

A study is replayed from its first trial on whenever it is run, and what was trained before costs nothing: there is no
state that a kill could damage.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.config.searches import Parameters
from bus_mlops.errors import ConfigError
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.search.study import BATCH, Outcome, Trials

if TYPE_CHECKING:
    from bus_mlops.search.oracles import Replayed

LOG = logging.getLogger(__name__)


@dataclass
class _Trial:
    """Parameters and what became of them.

    Attributes:
        asked: The oracle's trials with them: of Hyperband one for each rung; none if it does not know them.
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
        folder: Not used: nothing is kept but the cells.

    Returns:
        The trials by number, with those that failed.

    Raises:
        CellsFailedError: Nothing but failures comes.
    """
    del folder
    return _Study(trials).run()


class _Study:
    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._first = dict(trials.start.first)
        self._oracle, self._knows_first = _oracle(trials)
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
        if not self._known and not self._knows_first:
            batch.append(self._begin(self._first))
        for asked in self._oracle.ask(BATCH - len(batch)):
            values = asked.hyperparameters.values
            trial = self._by_id.get(values.get("tuner/trial_id", ""))
            if trial is None:
                trial = self._begin(self._trials.space.proposal(self._oracle.parameters(asked)))
            self._by_id[asked.trial_id] = trial
            trial.asked.append(asked)
            trial.epochs = values.get("tuner/epochs")
            if trial.epochs == self._trials.epochs:
                trial.epochs = None
            batch.append(trial)
        return batch

    def _begin(self, parameters: Parameters) -> _Trial:
        trial = _Trial(len(self._known), parameters)
        self._known.append(trial)
        return trial

    def _evaluate(self, batch: list[_Trial]) -> None:
        """Train a batch, those of equal length at once, and tell the oracle."""
        for epochs in sorted({trial.epochs for trial in batch}, key=lambda epochs: epochs or math.inf):
            group = {trial.number: trial for trial in batch if trial.epochs == epochs}
            outcomes = self._trials.evaluate({number: trial.parameters for number, trial in group.items()}, epochs)
            for number, trial in group.items():
                trial.outcome = outcomes[number]
                trial.trained += trial.outcome.epochs
        for trial in batch:
            if trial.asked:
                self._oracle.tell(trial.asked[-1], None if trial.outcome.failure else trial.outcome.values[0])

    def _record(self, ended: bool = False) -> None:
        """Record the trials that are decided, in the order of their numbers."""
        undecided = set() if ended else self._oracle.undecided()
        for trial in self._known[len(self._records) :]:
            if undecided & {asked.trial_id for asked in trial.asked}:
                return
            pruned = "" if trial.epochs is None else f"others were better after {trial.epochs} epochs"
            record = self._trials.record(
                trial.number, trial.parameters, trial.outcome, pruned=pruned, epochs=trial.trained
            )
            self._records.append(record)
            self._trials.tell(record)


def _oracle(trials: Trials) -> tuple[Replayed, bool]:
    """The oracle of a study, and whether the first trial lies in its space."""
    from bus_mlops.search import oracles

    settings = trials.plan.settings
    try:
        first = trials.space.proposal(trials.start.first)
    except ConfigError as error:
        LOG.info("[search] the first trial is not told to keras-tuner, which knows only the space: %s", error)
        first = None
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
    oracle = kind(
        oracles.Dimensions(dict(trials.space.dimensions)),
        first,
        trials=trials.wanted - (first is None),
        direction=trials.directions[0],
        seed=trials.seed(),
        **more,
    )
    return oracle, first is not None
