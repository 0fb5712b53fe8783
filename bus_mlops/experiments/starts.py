"""What a search starts from, its strategy's first row of the network; and its first trial, the paper's values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bus_mlops.config import Config, Search, Value
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.space import Space
from bus_mlops.experiments.strategies import STRATEGIES, Row
from bus_mlops.models.zoo import entry


@dataclass(frozen=True)
class Start:
    """Of one network: the row whose settings trials change, the first trial, the row that the result stands beside."""

    row: Row
    first: dict[str, Value]
    beside: Row


def starts_of(config: Config, name: str, search: Search) -> list[Start]:
    """The start of each network of a search; of one that is not among `networks` of the profile there is none.

    Raises:
        ConfigError: The strategy has no row of a network, or the space or the first trial cannot be.
        NetworkError: Nobody has registered a network.
    """
    for network in search.network:
        if not entry(network).task.classifies:
            raise ConfigError(
                f"searches.{name}.network: {network} only draws masks, and {', '.join(search.objective)} is of a class"
            )
    known = [network for network in search.network if network in config.networks]
    if not known:
        return []
    strategy = STRATEGIES.get_known(search.strategy)
    # Also of networks that the profile's own table leaves out.
    rows = list(strategy.make_rows(config, strategy.settings_of(config).model_copy(update={"networks": None})))
    # The paper's values do not depend on how many of them the profile's own table has.
    usual = list(strategy.make_rows(config, strategy.settings()))
    starts = []
    for network in known:
        own, every = ([row for row in each if row.spec.network == network] for each in (rows, [*rows, *usual]))
        if not own:
            there = ", ".join(dict.fromkeys(row.spec.network for row in rows))
            raise ConfigError(
                f"searches.{name}.network: {network} has no row in the strategy {search.strategy}, whose networks are "
                f"{there}: name another strategy"
            )
        starts.append(_start(name, search, own[0], [row for row in every if row.paper is not None]))
    return starts


def _start(name: str, search: Search, row: Row, printed: Sequence[Row]) -> Start:
    where = f"searches.{name}"
    space = Space.of(search.space, row.spec, f"{where}.space")
    beside = _within(space, printed) or row
    try:
        first = space.proposal({**space.read(beside.spec), **(search.first or {})})
    except ConfigError as error:
        network, ranges = row.spec.network, "first" if search.first else "what it starts from"
        raise ConfigError(
            f"{where}: the first trial of {network} ({ranges}) lies outside the space: {error}. Widen the space, or "
            f"name the values in {where}.first"
        ) from None
    return Start(row, first, beside)


def _within(space: Space, printed: Iterable[Row]) -> Row | None:
    """The first row beside one of the paper that the start becomes by values of the space."""
    for row in printed:
        parameters = space.read(row.spec)
        try:
            reached = space.spec(space.proposal(parameters))
        except ConfigError:
            continue
        if parameters != space.start() and reached.canonical() == row.spec.canonical():
            return row
    return None
