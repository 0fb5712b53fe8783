"""What came after the paper, or beside it, in a table of its own: linear probes as a floor, and networks of today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec, networks_of
from bus_mlops.experiments.strategies.strategy import strategy
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.spec import Task


class SinceThePaperSettings(NetworkChoice):
    """Of which images, and what starts from RadImageNet's weights."""

    cohort: Literal["all", "multitask"] = Field(
        default="multitask", description="whose images: those of Tables 4 to 7, or those of Tables 8 and 9 [cohort]"
    )
    radimagenet: tuple[str, ...] = Field(
        default=(), description="of the profile's networks: a row each from RadImageNet's weights, with their scaling"
    )


@strategy(
    order=50,
    title="Since the paper",
    explanation="What the paper does not have: a linear probe, which is the features of a frozen encoder and logistic "
    "regression on them, as the floor of every table; and networks that came later.",
    settings=SinceThePaperSettings,
)
def since_the_paper(config: Config, settings: SinceThePaperSettings) -> Iterator[Row]:
    """One row for each network that the paper's tables have no place for, and for each with other weights."""
    kind = "networks since the paper, such as linear_probe_mobilenet"

    def fits(network: NetworkEntry) -> bool:
        return network.since_the_paper or network.name in settings.radimagenet

    for name in settings.radimagenet:
        if name not in config.networks:
            raise ConfigError(
                "strategy_settings.since_the_paper.radimagenet must be among the networks "
                f"({', '.join(config.networks)}) but got {name!r}"
            )
    for name, network in networks_of(config, "since_the_paper", settings, fits, kind):
        variant = (
            "Mask only" if not network.task.classifies else "Multi" if network.task is Task.MULTITASK else "Single"
        )
        own = make_row(make_spec(config, name, settings.cohort), variant)
        if network.since_the_paper:
            yield own
        if name in settings.radimagenet and not (
            network.since_the_paper and own.spec.training.weights == "radimagenet"
        ):
            changes = {"weights": "radimagenet", "scaling": "radimagenet"}
            yield make_row(make_spec(config, name, settings.cohort, **changes), variant)
