"""What `params.yaml` says about one search: of which network, from what start, over what, judged by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bus_mlops.config.base import MetricName, Strict
from bus_mlops.config.strategies import StrategyName

Value = bool | int | float | str
# What a search proposes for a trial: the value of each path of its space, without those whose condition does not hold.
Parameters = Mapping[str, Value]


class Range(Strict):
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    step: float | None = Field(default=None, gt=0, description="null: any number between; whole ones for whole numbers")
    log: bool = Field(default=False, description="even on a logarithmic scale")
    when: dict[str, Value] = Field(default_factory=dict, description="values of other paths, without which it is none")


class Choices(Strict):
    """One of some values."""

    choices: tuple[Value, ...] = Field(min_length=1)
    when: dict[str, Value] = Field(default_factory=dict, description="values of other paths, without which it is none")


def _as_choices(value: Any) -> Any:
    return {"choices": value} if isinstance(value, (list, tuple)) else value


Dimension = Annotated[Range | Choices, BeforeValidator(_as_choices)]
NetworkNames = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value), Field(min_length=1)
]


class Pruning(Strict):
    """When a trial is stopped before it has been trained on every fold, or to the last epoch."""

    folds: Literal["none", "wilcoxon"] = Field(default="none", description="between inner folds (or folds) and seeds")
    epochs: Literal["none", "median", "successive_halving", "hyperband"] = Field(
        default="none", description="between epochs, by the value on validation of those so far"
    )
    rungs: tuple[int, ...] = Field(default=(), description="epochs after which trials are compared; empty: by thirds")


class Search(Strict):
    """One search: a stage `search@NAME`, and `tuned@NAME` with what it chose."""

    network: NetworkNames = Field(description="one, or several that are searched one after the other")
    strategy: StrategyName = Field(description="whose settings it starts from, on whose images")
    space: dict[str, Dimension] = Field(min_length=1, description="path into training or options -> what is tried")
    first: dict[str, Value] | None = Field(
        default=None, description="the first trial; null: the paper's parameters, else those of the start"
    )
    engine: Literal["optuna", "keras-tuner"] = "optuna"
    sampler: str = Field(default="tpe", description="grid, tpe, random, ... of optuna; hyperband, bayesian, random")
    trials: int | None = Field(default=20, ge=1, description="of each network and fold; null: all of a grid")
    epochs: int | None = Field(default=None, ge=1, description="of a trial; null: as in the strategy")
    objective: tuple[MetricName, ...] = Field(default=("roc_auc",), min_length=1)
    constraint: dict[MetricName, float] = Field(
        default_factory=dict, description="the least a metric must reach (fraction); the most, if less is better"
    )
    nested: bool = Field(
        default=True, description="chosen for each test fold on images outside it; false: once, on `folds`"
    )
    inner_folds: int | None = Field(
        default=None, ge=2, le=20, description="cross-validates inside the training part; null: its validation part"
    )
    folds: tuple[int, ...] | None = Field(default=None, description="of a search that is not nested; null: the first")
    seeds: int = Field(default=1, ge=1, le=20, description="trainings of a trial on each fold")
    standard_errors: float = Field(
        default=1.0, ge=0, description="by how many of the difference another trial must beat the first"
    )
    pruning: Pruning = Pruning()
