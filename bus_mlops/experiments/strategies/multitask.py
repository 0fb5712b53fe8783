"""Table 8, on the images that have masks: a classifier against the same one with a decoder for the mask."""

from __future__ import annotations

from collections.abc import Iterator

from bus_mlops.config import Config, CrossEntropy, NetworkChoice
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec, networks_of
from bus_mlops.experiments.strategies.strategy import strategy
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.models.zoo import NETWORKS
from bus_mlops.spec import RunSpec, Task


@strategy(
    order=8,
    title="Multitask learning",
    explanation="The classifier alone against the same network that also outlines the lesion: the paper's Table 8.",
    settings=NetworkChoice,
)
def multitask(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    """Single and Multi of each multitask form of a classifier."""
    kind = "multitask forms of classifiers"
    for name, network in networks_of(config, "multitask", settings, lambda each: comparator(each) is not None, kind):
        single = comparator(network)
        assert single is not None  # noqa: S101 - only networks with one fit
        yield make_row(_single(config, name, single), "Single", table=8)
        yield make_row(make_spec(config, name, "multitask"), "Multi", table=8)


def comparator(network: NetworkEntry) -> NetworkEntry | None:
    """The classifier that is a multitask network without its decoder: the one of the same label."""
    if network.task is not Task.MULTITASK:
        return None
    same = (each for each in NETWORKS.values() if each.label == network.label)
    return next((each for each in same if each.task is Task.CLASSIFICATION), None)


def _single(config: Config, name: str, single: NetworkEntry) -> RunSpec:
    """The comparator trained like the multitask network `name`, on plain cross-entropy [paper, section 5.2.1]."""
    multi = make_spec(config, name, "multitask", loss=CrossEntropy())
    options = config.networks[single.name].options if single.name in config.networks else {}
    return multi.model_copy(update={"network": single.name, "options": single.resolve(options), "task": single.task})
