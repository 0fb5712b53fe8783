"""The candidate network with the loss that the search found: it comes with the search, not with `strategies`."""

from __future__ import annotations

from collections.abc import Iterator

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec
from bus_mlops.experiments.strategies.strategy import Strategy
from bus_mlops.models.zoo import entry
from bus_mlops.spec import RunSpec

NAME = "tuned"


def tuned(config: Config) -> Strategy[NetworkChoice]:
    """The strategy of the profile's candidate network."""
    network = config.promotion.candidate_network
    label = entry(network).label if network in config.networks else network
    return Strategy(
        name=NAME,
        order=10,
        title=f"{label} after the search",
        explanation=f"{label} with the loss that the search found on validation.",
        settings=NetworkChoice,
        make_rows=_rows,
    )


def candidate_spec(config: Config) -> RunSpec | None:
    """What the search starts from, on the images that the approaches see; None when the profile lacks the network.

    Raises:
        ConfigError: The network names no class.
    """
    network = config.promotion.candidate_network
    if network not in config.networks:
        return None
    if not entry(network).task.classifies:
        raise ConfigError(
            f"promotion.candidate_network must be a network that names a class, but {network!r} only draws masks"
        )
    return make_spec(config, network, "multitask")


def _rows(config: Config, _: NetworkChoice) -> Iterator[Row]:
    """No row when the profile lacks the network; the spec holds the profile's loss until the search has run."""
    spec = candidate_spec(config)
    if spec is None:
        return
    variant = "Multi" if spec.task.segments else "Single"
    row = make_row(spec, variant, table=9)
    yield row.model_copy(update={"variant": row.variant.replace(variant, f"{variant}, tuned", 1)})
