"""What came after the paper, or beside it, in a table of its own: linear probes as a floor, and networks of today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec, networks_of
from bus_mlops.experiments.strategies.strategy import strategy


class SinceThePaperSettings(NetworkChoice):
    """Of which images."""

    cohort: Literal["all", "multitask"] = Field(
        default="multitask", description="whose images: those of Tables 4 to 7, or those of Tables 8 and 9 [cohort]"
    )


@strategy(
    order=50,
    title="Since the paper",
    explanation="What the paper does not have: a linear probe, which is the features of a frozen encoder and logistic "
    "regression on them, as the floor of every table; and networks that came later.",
    settings=SinceThePaperSettings,
)
def since_the_paper(config: Config, settings: SinceThePaperSettings) -> Iterator[Row]:
    """One row for each network that the paper's tables have no place for."""
    kind = "networks since the paper, such as linear_probe_mobilenet"
    for name, _ in networks_of(config, "since_the_paper", settings, lambda each: each.since_the_paper, kind):
        yield make_row(make_spec(config, name, settings.cohort), "Single")
