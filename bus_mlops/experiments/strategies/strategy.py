"""What a strategy is, and the registry of those that `strategies` of `params.yaml` may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.strategies.rows import Row
from bus_mlops.registries import Registry

S = TypeVar("S", bound=NetworkChoice)
MakeRows = Callable[[Config, S], Iterator[Row]]
# Plan files and arguments of `bus-mlops train` that are no strategies.
RESERVED = ("all", "sizes")


@dataclass(frozen=True)
class Strategy(Generic[S]):
    """One table of a reproduction: which rows it has, and how it is shown.

    Attributes:
        order: Its place among the tables: the paper's have the numbers of their tables, 4 to 9.
        title: Heads it in report and summary.
        explanation: A sentence or two below the title.
        settings: The model of its section of `strategy_settings`, all of whose fields have defaults.
        make_rows: Yields the rows.
    """

    name: str
    order: int
    title: str
    explanation: str
    settings: type[S]
    make_rows: MakeRows[S]

    def settings_of(self, config: Config) -> S:
        """Its section of `strategy_settings`."""
        return config.strategy_settings.of(self.name, self.settings)


STRATEGIES: Registry[Strategy[Any]] = Registry("strategy", ConfigError)


def strategy(*, order: int, title: str, explanation: str, settings: type[S]) -> Callable[[MakeRows[S]], MakeRows[S]]:
    """Register the decorated function as the strategy of its name; the arguments are `Strategy`'s.

    The function is called with the configuration and its own settings, and yields rows (`make_row`).

    Raises:
        ConfigError: Another strategy, or another file of the plan, has the name already, or a setting has no default.
    """

    def register(function: MakeRows[S]) -> MakeRows[S]:
        name = function.__name__
        if name in RESERVED:
            raise ConfigError(f"a strategy cannot be called {name!r}, which names something else: rename the function.")
        try:
            settings()
        except ValidationError as error:
            raise ConfigError(
                f"{settings.__name__} of the strategy {name!r}: every field needs a default: {error}"
            ) from error
        STRATEGIES.add(name, Strategy(name, order, title, explanation, settings, function), function.__module__)
        return function

    return register


def in_order() -> list[Strategy[Any]]:
    """All registered strategies in the order of their tables."""
    return sorted(STRATEGIES.values(), key=lambda each: (each.order, each.name))
