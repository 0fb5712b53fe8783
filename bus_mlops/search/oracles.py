"""keras-tuner's oracles as a study asks them: in batches, told of cells of the ledger, without a file of their own.

What an oracle proposes depends on its seed and on what it was told, and on nothing else: a study that was killed asks
again from the first trial on, finds its cells in the ledger, and comes to the same point.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from threadpoolctl import threadpool_limits

from bus_mlops.config.searches import Choices, Dimension, Parameters, Value
from bus_mlops.models import framework  # noqa: F401 - first, since keras-tuner loads Keras: with our settings

# isort: split
from keras_tuner import HyperParameters, Objective, Oracle
from keras_tuner.engine import hyperparameters as hp
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle
from keras_tuner.src.engine.conditions import Parent

OBJECTIVE = "objective"
# One in so many trials of a rung goes on to the next, which is so many times as long.
FACTOR = 3
# Draws in a row that were all tried before, after which a space counts as exhausted; keras-tuner's 20 often miss the
# last points of a small one.
COLLISIONS = 1000


class Dimensions:
    """A space in keras-tuner's words.

    keras-tuner has the index of a value wherever there is a list of them. What it would make of the values themselves
    are other cells, or fewer: 1 of `true`, 0.25000000000000004 of 0.25, and no 0.9 in steps of 0.05 from 0.2.

    Args:
        dimensions: By path, each after those that its condition names; ranges of whole numbers end in whole numbers.
    """

    def __init__(self, dimensions: Mapping[str, Dimension]) -> None:
        self._dimensions = dimensions

    def hyperparameters(self) -> Any:
        """All dimensions with their conditions."""
        space = HyperParameters()
        for path, dimension in self._dimensions.items():
            conditions = [Parent(other, [self._encoded(other, value)]) for other, value in dimension.when.items()]
            if (count := _count(dimension)) is not None:
                space.merge([hp.Int(path, 0, count - 1, conditions=conditions)])
            elif not isinstance(dimension, Choices):
                kind = hp.Int if isinstance(dimension.low, int) else hp.Float
                sampling = "log" if dimension.log else "linear"
                space.merge([kind(path, dimension.low, dimension.high, sampling=sampling, conditions=conditions)])
        return space

    def encoded(self, parameters: Parameters) -> dict[str, Any]:
        """keras-tuner's values of parameters that lie in the space."""
        return {path: self._encoded(path, value) for path, value in parameters.items()}

    def decoded(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """The parameters of keras-tuner's values."""
        return {path: self._decoded(path, values[path]) for path in self._dimensions if path in values}

    def _encoded(self, path: str, value: Any) -> Any:
        dimension = self._dimensions[path]
        if isinstance(dimension, Choices):
            return dimension.choices.index(value)
        return value if dimension.step is None else round((value - dimension.low) / dimension.step)

    def _decoded(self, path: str, value: float) -> Value:
        dimension = self._dimensions[path]
        if isinstance(dimension, Choices):
            return dimension.choices[int(value)]
        if dimension.step is not None:
            return dimension.low + value * dimension.step
        # At the upper end, keras-tuner's logarithmic scale gives one whole number more, or another last digit.
        return min(max(value, dimension.low), dimension.high)


class Replayed(Oracle):
    """An oracle that saves and prints nothing, bears any number of failures, and begins with a trial of ours.

    Args:
        dimensions: The space.
        first: The parameters of the first trial.
        trials: How many are wanted, those that fail not counted.
        direction: 1 if more is better, -1 if less.
        seed: Of all that is proposed.
        settings: Those of keras-tuner's oracle.
    """

    def __init__(
        self,
        dimensions: Dimensions,
        first: Parameters,
        *,
        trials: int,
        direction: int,
        seed: int,
        **settings: Any,
    ) -> None:
        self._dimensions = dimensions
        self._wanted = trials
        self._first = dimensions.encoded(first)
        super().__init__(
            objective=Objective(OBJECTIVE, "max" if direction > 0 else "min"),
            hyperparameters=dimensions.hyperparameters(),
            seed=seed or 1,  # of 0 it would make one at random
            max_consecutive_failed_trials=None,
            **settings,
        )
        self.max_trials = None  # it would count those that failed
        self.verbose = 0
        self._max_collisions = COLLISIONS

    def ask(self, count: int) -> list[Any]:
        """So many trials that do not wait for one another, or fewer; none if nothing is left to try."""
        asked: list[Any] = []
        most = min(count, self._left())
        # One thread: their number could change the last digit of a sum, and with it a proposal.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            while len(asked) < most:
                trial = self.create_trial(str(len(asked)))
                if trial.status != "RUNNING":
                    break
                asked.append(trial)
        return asked

    def tell(self, trial: Any, value: float | None) -> None:
        """The value of a trial that was asked for; None if it failed."""
        if value is not None:
            self.update_trial(trial.trial_id, {OBJECTIVE: value})
        trial.status = "FAILED" if value is None else "COMPLETED"
        self.end_trial(trial)

    def undecided(self) -> set[str]:
        """The ids of trials that were told, and may still go on."""
        return set()

    def parameters(self, trial: Any) -> dict[str, Value]:
        """What a trial that was asked for tries."""
        return self._dimensions.decoded(trial.hyperparameters.values)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """What keras-tuner calls for the values of a trial."""
        if not self.trials:
            return {"status": "RUNNING", "values": self._first}
        response: dict[str, Any] = super().populate_space(trial_id)
        return response

    def _left(self) -> float:
        failed = [trial for trial in self.trials.values() if trial.status == "FAILED"]
        return self._wanted - len(self.trials) + len(failed)

    def save(self) -> None:
        """Nothing is saved."""

    def _save_trial(self, trial: Any) -> None:
        pass

    def _compute_values_hash(self, values: Mapping[str, Any]) -> str:
        return json.dumps(self._dimensions.decoded(values), sort_keys=True)


class Random(Replayed, RandomSearchOracle):
    """Parameters at random, none twice."""


class _Process(GaussianProcessRegressor):
    """scikit-learn's process; its `predict`, called thousands of times a trial, checks longer than it computes."""

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:  # noqa: N803 - theirs
        """As scikit-learn's, of points that keras-tuner has made."""
        if not return_std or not hasattr(self, "L_"):
            return super().predict(X, return_std=return_std, return_cov=return_cov)
        across = self.kernel_(X, self.X_train_)
        mean = self._y_train_mean + self._y_train_std * (across @ self.alpha_)
        explained = solve_triangular(self.L_, across.T, lower=True, check_finite=False)
        variance = np.maximum(self.kernel_.diag(X) - np.sum(explained**2, axis=0), 0)
        return mean, self._y_train_std * np.sqrt(variance)


class Bayesian(Replayed, BayesianOptimizationOracle):
    """Parameters where a Gaussian process has its best confidence bound.

    keras-tuner draws three times as many as there are dimensions at random before it asks the process; here at most
    half of all trials.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.num_initial_points = max(1, min(3 * len(self.hyperparameters.space), self._wanted // 2))

    def _make_gpr(self) -> Any:
        usual = super()._make_gpr()
        return _Process(**usual.get_params(deep=False))

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """What the process proposes, or parameters at random if those were tried before: they would tell nothing."""
        response = super().populate_space(trial_id)
        if response["values"] and self._duplicate(response["values"]):
            response = self._random_populate_space()
        return response


class Hyperband(Replayed, HyperbandOracle):
    """Successive halving in brackets, of which each begins with fewer trials and more epochs than the one before.

    In keras-tuner the epochs fix the number of trials; here it is given, and divided among the brackets in proportion
    to their usual sizes. Where the space has no more points, a bracket goes on with those it has; in place of a trial
    that failed, it takes another. keras-tuner would leave it unfinished in both cases.

    Args:
        arguments: As above; the first trial is in no bracket.
        epochs: Of a trial that goes all the way.
        settings: As above.
    """

    def __init__(self, *arguments: Any, epochs: int, **settings: Any) -> None:
        super().__init__(*arguments, max_epochs=epochs, factor=FACTOR, hyperband_iterations=1, **settings)
        size = super()._get_size
        usual = [size(bracket, 0) for bracket in range(self._get_num_brackets())]
        divided = _divided(self._wanted - 1, usual)
        self._sizes = [_halved(trials, bracket + 1) for bracket, trials in enumerate(divided)]

    def tell(self, trial: Any, value: float | None) -> None:
        """The value of a trial that was asked for; None if it failed: its places in the bracket become free."""
        super().tell(trial, value)
        if value is not None:
            return
        for bracket in self._brackets:
            lost = trial.trial_id
            for begun in reversed(bracket["rounds"]):
                for each in [each for each in begun if each["id"] == lost]:
                    begun.remove(each)
                    lost = each["past_id"]

    def undecided(self) -> set[str]:
        """The ids of trials that were told, and may still go on."""
        return {each["id"] for bracket in self._brackets for begun in bracket["rounds"] for each in begun}

    def _left(self) -> float:
        return math.inf  # the brackets know when to end

    def _get_size(self, bracket_num: int, round_num: int) -> int:
        return self._sizes[bracket_num][round_num]

    def _remove_completed_brackets(self) -> None:
        if not self.ongoing_trials:  # else one of them may fail
            super()._remove_completed_brackets()

    def _random_trial(self, trial_id: str, bracket: dict[str, Any]) -> dict[str, Any]:
        number, begun = bracket["bracket_num"], len(bracket["rounds"][0])
        if begun < self._get_size(number, 0):
            response: dict[str, Any] = super()._random_trial(trial_id, bracket)
            if response["status"] == "RUNNING":
                return response
            self._sizes[number] = _halved(begun, number + 1)
        return self.populate_space(trial_id)


def _count(dimension: Dimension) -> int | None:
    """How many values there are; None if they cannot be listed."""
    if isinstance(dimension, Choices):
        return len(dimension.choices)
    return None if dimension.step is None else round((dimension.high - dimension.low) / dimension.step) + 1


def _divided(total: int, shares: Sequence[int]) -> list[int]:
    """A whole number in proportion to shares; the largest remainders get what is left over.

    >>> _divided(19, [5, 8, 15, 34])
    [2, 2, 5, 10]
    """
    exact = [total * share / sum(shares) for share in shares]
    parts = [math.floor(each) for each in exact]
    for index in sorted(range(len(shares)), key=lambda i: parts[i] - exact[i])[: total - sum(parts)]:
        parts[index] += 1
    return parts


def _halved(size: int, rounds: int) -> list[int]:
    """How many trials each round of a bracket has.

    >>> _halved(10, 4), _halved(0, 2)
    ([10, 4, 2, 1], [0, 0])
    """
    return [math.ceil(size / FACTOR**number) for number in range(rounds)]
