"""Table 9, on the images that have masks: the published approaches; and networks that only draw the mask."""

from __future__ import annotations

from collections.abc import Iterator

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.experiments.strategies.multitask import comparator
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec, networks_of
from bus_mlops.experiments.strategies.strategy import strategy
from bus_mlops.models.entry import NetworkEntry


@strategy(
    order=9,
    title="Approaches",
    explanation="Networks made for breast ultrasound, which also outline the lesion: the paper's Table 9.",
    settings=NetworkChoice,
)
def approaches(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    """One row for each network that draws masks and is no classifier with a decoder."""
    kind = "networks for masks that extend no classifier"
    for name, network in networks_of(config, "approaches", settings, _is_approach, kind):
        variant = "Multi" if network.task.classifies else "Mask only"
        yield make_row(make_spec(config, name, "multitask"), variant, table=9)


def _is_approach(network: NetworkEntry) -> bool:
    return network.task.segments and comparator(network) is None
