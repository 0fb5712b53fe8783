"""Optuna's samplers and pruners behind a study: what they propose follows from the seed and from what they are told."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bus_mlops.config.searches import Choices, Parameters, Pruning, Range, Value
from bus_mlops.errors import ConfigError
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.search.pick import excesses
from bus_mlops.search.study_store import Kept
from bus_mlops.search.trials import BATCH, Trials

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

LOG = logging.getLogger(__name__)

# One of so many trials goes on at a rung, and a rung has so many times the epochs of the one before it.
REDUCTION = 3


# Wilcoxon's test can say this of three steps on all of which a trial is worse than the best (1/8), not of two (1/4).
WILCOXON_P = 0.13


# Of a population of more, a search of a few dozen trials would see one generation.
POPULATION = 2 * BATCH


def rungs(pruning: Pruning, epochs: int) -> list[int]:
    """The epochs after which trials are compared, ascending, without the last: given, or a ninth and a third.

    >>> rungs(Pruning(epochs="median"), 50), rungs(Pruning(epochs="median", rungs=(10, 60)), 50)
    ([5, 16], [10])
    """
    if pruning.epochs == "none":
        return []
    given = pruning.rungs or (epochs // REDUCTION**2, epochs // REDUCTION)
    return sorted({each for each in given if 1 <= each < epochs})


class Proposer:
    """Optuna's sampler with a study in memory; asked and told the same, it proposes the same.

    Attributes:
        distributions: Path -> distribution of Optuna's.
        exhausted: Whether there is nothing left to propose.
    """

    def __init__(self, trials: Trials) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        settings = trials.plan.settings
        self._space = trials.space
        self._limits = settings.constraint
        self._sampler = settings.sampler
        self._listed = trials.grid() if self._sampler == "grid" else [trials.start.first]
        self.exhausted = False
        self.distributions: dict[str, BaseDistribution] = {
            path: distribution(dimension) for path, dimension in self._space.dimensions
        }
        self._study = optuna.create_study(
            study_name=str(trials.seed()),  # Hyperband shares trials out by it
            sampler=make_sampler(self._sampler, trials.seed()),
            pruner=_epoch_pruner(settings.pruning, len(rungs(settings.pruning, trials.epochs))),
            directions=["maximize" if sign > 0 else "minimize" for sign in trials.directions],
        )
        for parameters in self._listed:
            self._study.enqueue_trial(dict(parameters))
        # None: a trial that was proposed by another version.
        self._asked: list[optuna.Trial | None] = []

    def ask(self, size: int, kept: Mapping[int, Kept]) -> dict[int, Parameters]:
        """The next trials by number, or as many of them as there are; one that was kept is what it was."""
        from optuna.trial import TrialState

        group: dict[int, Parameters] = {}
        for _ in range(size):
            number = len(self._asked)
            if self._sampler == "grid" and number == len(self._listed):
                break
            trial = self._study.ask()
            group[number] = self._suggested(trial)
            self._asked.append(trial)
            if number in kept and kept[number].trial.parameters != group[number]:
                LOG.warning("[search] trial %d was proposed by another version, and stays as it was", number)
                self._study.tell(trial, state=TrialState.FAIL)
                self._asked[number] = None
                group[number] = kept[number].trial.parameters
        self.exhausted = self._sampler == "grid" and len(self._asked) == len(self._listed)
        return group

    def _suggested(self, trial: optuna.Trial) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for path, distribution in self.distributions.items():
            if path in self._space.active(found):
                found[path] = trial._suggest(path, distribution)  # noqa: SLF001 - the one way for any distribution
        return self._space.proposal(found)

    def report(self, number: int, value: float, resource: int) -> None:
        """What a trial has reached so far."""
        trial = self._asked[number]
        if trial is not None:
            trial.report(value, resource)

    def should_prune(self, number: int) -> bool:
        """Whether a trial is not worth more epochs."""
        trial = self._asked[number]
        return trial is not None and trial.should_prune()

    def tell(self, record: TrialRecord) -> None:
        """What became of a trial. From a failed one the sampler learns, as from a pruned one, to stay away."""
        from optuna.trial import TrialState, create_trial

        complete = record.state == "complete"
        values = list(record.values) if complete else None
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        missed = excesses(record.constraints, self._limits) if record.constraints else {}
        trial = self._asked[record.number]
        if trial is None:
            own = {path: self.distributions[path] for path in record.parameters}
            frozen = create_trial(state=state, values=values, params=record.parameters, distributions=own)
            for name, excess in missed.items():
                frozen.set_constraint(name, excess)
            self._study.add_trial(frozen)
            return
        for name, excess in missed.items():
            trial.set_constraint(name, excess)
        try:
            self._study.tell(trial, values, state=state)
        except RuntimeError:
            # Brute force calls for a stop when it has tried everything, which Optuna refuses outside its own loop.
            if self._sampler != "brute_force":
                raise
            self.exhausted = True


class FoldPruner:
    """Optuna's Wilcoxon pruner: compares a trial with the best one step by step."""

    def __init__(self, trials: Trials) -> None:
        import optuna

        self._on = trials.plan.settings.pruning.folds != "none"
        self._trials: dict[int, optuna.Trial] = {}
        with _without_warnings():
            self._study = optuna.create_study(
                direction="maximize" if trials.directions[0] > 0 else "minimize",
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=optuna.pruners.WilcoxonPruner(p_threshold=WILCOXON_P),
            )

    def should_prune(self, number: int, steps: Sequence[float]) -> bool:
        """Whether a trial, with these values on the first steps, is worse than the best."""
        return self._reported(number, steps).should_prune()

    def tell(self, record: TrialRecord) -> None:
        """What became of a trial; only complete ones are compared with."""
        from optuna.trial import TrialState

        if not self._on or (record.state != "complete" and record.number not in self._trials):
            return
        trial = self._reported(record.number, record.steps)
        if record.state == "complete":
            self._study.tell(trial, record.values[0])
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _reported(self, number: int, steps: Sequence[float]) -> optuna.Trial:
        if number not in self._trials:
            self._trials[number] = self._study.ask()
        trial = self._trials[number]
        have = len(self._study.trials[trial.number].intermediate_values)
        for step, value in enumerate(steps[have:], have):
            trial.report(value, step)
        return trial


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A sampler of Optuna's that needs neither torch nor another package.

    Raises:
        ConfigError: There is none of that name; lists those that there are.
    """
    from optuna import samplers

    made: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: samplers.TPESampler(
            seed=seed,
            n_startup_trials=BATCH,
            multivariate=True,
            group=True,
            constant_liar=True,  # spreads the trials of a group
        ),
        "random": lambda: samplers.RandomSampler(seed=seed),
        "grid": lambda: samplers.RandomSampler(seed=seed),  # all its trials are given
        "qmc": lambda: samplers.QMCSampler(seed=seed, scramble=True),
        "nsgaii": lambda: samplers.NSGAIISampler(population_size=POPULATION, seed=seed),
        "nsgaiii": lambda: samplers.NSGAIIISampler(population_size=POPULATION, seed=seed),
        "brute_force": lambda: samplers.BruteForceSampler(seed=seed),
    }
    if name not in made:
        raise ConfigError(
            f"sampler must be one of {', '.join(made)} but got {name!r}. Optuna's gp needs torch, which is left out "
            "for its size, and its cmaes another package."
        )
    with _without_warnings():
        return made[name]()


def _epoch_pruner(pruning: Pruning, count: int) -> BasePruner:
    """The pruner between so many rungs, whose resources are the powers of REDUCTION, whatever their epochs."""
    from optuna import pruners

    made: dict[str, Callable[[], BasePruner]] = {
        "none": pruners.NopPruner,
        "median": lambda: pruners.MedianPruner(n_startup_trials=BATCH),
        "successive_halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
        "hyperband": lambda: pruners.HyperbandPruner(
            min_resource=1, max_resource=REDUCTION**count, reduction_factor=REDUCTION
        ),
    }
    return made[pruning.epochs]()


def distribution(dimension: Range | Choices) -> BaseDistribution:
    """A dimension in Optuna's words."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Of what Optuna calls experimental: the version is pinned, and the tests say if it changes."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
