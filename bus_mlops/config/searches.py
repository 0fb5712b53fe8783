"""What `params.yaml` says about one search: of which network, from what start, over what, judged by what."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PlainValidator, Tag, model_validator

from bus_mlops.config.base import MetricName, Strict
from bus_mlops.config.strategies import StrategyName

Value = bool | int | float | str
# What a search proposes for a trial: the value of each path of its space, without those whose condition does not hold.
Parameters = Mapping[str, Value]

# Of each engine, first the one that is taken where none is named. Optuna's others need torch, or another package.
SAMPLERS = {
    "optuna": ("tpe", "random", "grid", "qmc", "nsgaii", "nsgaiii", "brute_force"),
    "keras-tuner": ("hyperband", "bayesian", "random"),
}


def _number(value: Any) -> int | float:
    """As it is written, for whole numbers stay whole."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


# One error, where a union of both would be told twice.
Number = Annotated[int | float, PlainValidator(_number)]


class Range(Strict):
    """Numbers from `low` to `high`, both included; whole ones where the path takes whole numbers."""

    low: Number = Field(description="the least [as the path's]")
    high: Number = Field(description="the greatest [as the path's]")
    step: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="from value to value; null: any number between; 1 for whole numbers [as the path's]"
    )
    log: bool = Field(default=False, description="even on a logarithmic scale; without a step")
    when: dict[str, Value] = Field(
        default_factory=dict, description="values of other paths, without which there is none [as the path's]"
    )

    @model_validator(mode="after")
    def _has_something_in_it(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be less than high but got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be more than 0 on a logarithmic scale but got {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other: remove one, or list the values")
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
                reached = self.low + max(1, math.floor(steps)) * self.step
                raise ValueError(
                    f"steps of {self.step:g} from {self.low:g} do not reach {self.high:g}: set high to {reached:g}"
                )
        return self


class Choices(Strict):
    """One of some values."""

    choices: tuple[Value, ...] = Field(
        min_length=1, description="the values; a list in place of these keys is short for it [as the path's]"
    )
    when: dict[str, Value] = Field(
        default_factory=dict, description="values of other paths, without which there is none [as the path's]"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen: list[Value] = []
        for value in self.choices:
            if any(value == other for other in seen):
                raise ValueError(f"must not repeat a value but got {value!r} twice")
            seen.append(value)
        return self


def _which(value: Any) -> str:
    listed = isinstance(value, (list, tuple, Choices)) or (isinstance(value, Mapping) and "choices" in value)
    return "choices" if listed else "range"


def _as_choices(value: Any) -> Any:
    return {"choices": value} if isinstance(value, (list, tuple)) else value


Dimension = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, BeforeValidator(_as_choices), Tag("choices")],
    Discriminator(_which),
]


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            f"a search's name is a word of letters, digits and _ (it names stages and files) but got {name!r}"
        )
    if name == "approaches":
        raise ValueError(
            "a search cannot be named approaches: in promotion.candidates that is what is trained without a search"
        )
    return name


SearchName = Annotated[str, AfterValidator(_identifier)]


class Pruning(Strict):
    """When a trial is stopped before it has been trained on every fold, or to the last epoch."""

    folds: Literal["none", "wilcoxon"] = Field(default="none", description="between inner folds (or folds) and seeds")
    epochs: Literal["none", "median", "successive_halving", "hyperband"] = Field(
        default="none", description="between epochs, by the value on validation of those so far"
    )
    rungs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="epochs after which trials are compared, rising; empty: by thirds [epochs]"
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(later <= earlier for earlier, later in zip(self.rungs, self.rungs[1:], strict=False)):
            raise ValueError(f"rungs must rise but got {', '.join(map(str, self.rungs))}")
        return self


class Search(Strict):
    """One search: a stage `search@NAME`, and `tuned@NAME` with what it chose."""

    network: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] = Field(
        description="one, or several that are searched one after the other"
    )
    strategy: StrategyName = Field(description="whose settings it starts from, on whose images")
    space: dict[str, Dimension] = Field(min_length=1, description="path into training or options -> what is tried")
    first: dict[str, Value] | None = Field(
        default=None,
        description="the first trial; null: the paper's parameters, else those of the start [as the path's]",
    )
    engine: Literal["optuna", "keras-tuner"] = Field(default="optuna", description="who proposes trials")
    sampler: str = Field(default="", description="grid, tpe, random, ... of optuna; hyperband, bayesian, random")
    trials: int | None = Field(
        default=20, ge=1, description="how many of each network and fold; null: all of a grid [trials]"
    )
    epochs: int | None = Field(default=None, ge=1, description="epochs of a trial; null: as in the strategy [epochs]")
    objective: Annotated[tuple[MetricName, ...], BeforeValidator(_listed), Field(min_length=1)] = Field(
        default=("roc_auc",),
        description="the metric on validation that decides; of several, the last, within constraints",
    )
    constraint: dict[MetricName, float] = Field(
        default_factory=dict, description="the least that a metric must reach; the most, if less is better [fraction]"
    )
    nested: bool = Field(
        default=True, description="chosen for each test fold on images outside it; false: once, on `folds`"
    )
    inner_folds: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="folds that cross-validate inside the training part; null: its validation part [folds]",
    )
    folds: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="those of a search that is not nested; null: the first [fold numbers]"
    )
    seeds: int = Field(default=1, ge=1, le=20, description="trainings of a trial on each fold [trainings]")
    standard_errors: float = Field(
        default=1.0,
        ge=0,
        description="by how many of the difference another trial must beat the first [standard errors]",
    )
    pruning: Pruning = Field(default=Pruning(), description="which trials are stopped early")
    stop: Literal["never", "noise"] = Field(
        default="never",
        description="noise: before all trials, when the gain of more is less than the noise of validation",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_sampler(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("sampler"):
            usual = SAMPLERS.get(str(values.get("engine", "optuna")), ("",))[0]
            return {**values, "sampler": usual}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = SAMPLERS[self.engine]
        wrong = {
            f"sampler of {self.engine} must be one of {', '.join(known)} but got {self.sampler!r}": self.sampler
            not in known,
            f"network must not name one twice but got {', '.join(self.network)}": _repeats(self.network),
            f"objective must not name one twice but got {', '.join(self.objective)}": _repeats(self.objective),
            "trials may be null for a grid only, which ends by itself: set a number": self.trials is None
            and self.sampler not in ("grid", "brute_force"),
            "folds are those of a search that is not nested: remove it, or set nested to false": self.nested
            and self.folds is not None,
            "inner_folds lie inside the training part of a test fold, which only a nested search has: remove it": (
                not self.nested and self.inner_folds is not None
            ),
            "pruning is Optuna's; of keras-tuner, hyperband stops trials by itself: remove it": self.engine
            == "keras-tuner"
            and (self.pruning.folds, self.pruning.epochs) != ("none", "none"),
            "pruning.folds compares several trainings of a trial, and there is one: set inner_folds or seeds": (
                self.pruning.folds != "none" and self.steps == 1
            ),
            "several objectives need a constraint: of those that meet it, the best in the last objective is chosen": (
                len(self.objective) > 1 and not self.constraint
            ),
            "pruning and stop compare trials by one objective, and there are several: remove them": (
                len(self.objective) > 1
                and (self.pruning.folds, self.pruning.epochs, self.stop) != ("none", "none", "never")
            ),
            "several objectives and constraints are for engine optuna: keras-tuner takes one objective": (
                self.engine == "keras-tuner" and (len(self.objective) > 1 or bool(self.constraint))
            ),
            "stop is for engine optuna: remove it": self.engine == "keras-tuner" and self.stop != "never",
            "pruning.rungs are those of pruning.epochs, which is none: remove them": bool(self.pruning.rungs)
            and self.pruning.epochs == "none",
            "space.epochs, and pruning.epochs or epochs, exclude each other: remove one": "epochs" in self.space
            and (self.epochs is not None or self.pruning.epochs != "none" or self.sampler == "hyperband"),
        }
        for message, holds in wrong.items():
            if holds:
                raise ValueError(message)
        for path, dimension in self.space.items():
            self._check_condition(path, dimension)
        for path in self.first or {}:
            if path not in self.space:
                raise ValueError(f"first.{path} is not a path of its space: {', '.join(self.space)}")
        return self

    def _check_condition(self, path: str, dimension: Range | Choices) -> None:
        for other, value in dimension.when.items():
            where = f"space.{path}.when.{other}"
            if other not in self.space or other == path:
                others = ", ".join(name for name in self.space if name != path) or "none"
                raise ValueError(f"{where} must be another path of the same space ({others})")
            parent = self.space[other]
            if not isinstance(parent, Choices) or value not in parent.choices:
                there = ", ".join(map(str, parent.choices)) if isinstance(parent, Choices) else "a range: list them"
                raise ValueError(f"{where} must be one of the values of space.{other} ({there}) but got {value!r}")
        if path in self._needed_by(path):
            raise ValueError(f"space.{path}.when depends on {path} itself: remove one of the conditions")

    def _needed_by(self, path: str) -> set[str]:
        """All paths on whose values a path depends."""
        found: set[str] = set()
        to_follow = set(self.space[path].when)
        while to_follow:
            found |= to_follow
            to_follow = {other for each in to_follow if each in self.space for other in self.space[each].when} - found
        return found

    @property
    def is_variant(self) -> bool:
        """Whether its space is one point: nothing is chosen, and it names a variant of its networks."""
        return all(isinstance(each, Choices) and len(each.choices) == 1 for each in self.space.values())

    @property
    def steps(self) -> int:
        """The trainings of a trial that is not stopped, for one test fold if it is nested."""
        parts = (self.inner_folds or 1) if self.nested else len(self.folds or (1,))
        return parts * self.seeds


def _repeats(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)
