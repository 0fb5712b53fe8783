"""Tables 8 and 9, on the images that have masks: what the second task brings, and the published approaches."""

from __future__ import annotations

from collections.abc import Iterator

from bus_mlops.config import Config, Loss
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec, networks_of
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.models.zoo import NETWORKS
from bus_mlops.spec import RunSpec, Task

MT_ESTAN = "mt_estan"


def multitask(config: Config) -> Iterator[Row]:
    """Table 8: a classifier (Single) against the same one with a decoder for the mask (Multi)."""
    for name, _ in networks_of(config, "multitask", _is_generic, "multitask forms of classifiers"):
        yield make_row(_single(config, name), 8, "Single")
        yield make_row(make_spec(config, name, "multitask"), 8, "Multi")


def approaches(config: Config) -> Iterator[Row]:
    """Table 9: the multitask networks made for ultrasound; and networks that only draw the mask."""
    for name, network in networks_of(
        config, "approaches", _is_approach, "networks for masks that extend no classifier"
    ):
        variant = "Multi" if network.task.classifies else "Mask only"
        yield make_row(make_spec(config, name, "multitask"), 9, variant)


def tuned(config: Config) -> Row:
    """MT-ESTAN with the loss weights that the search will have found; its spec holds the paper's until then."""
    row = make_row(make_spec(config, MT_ESTAN, "multitask"), 9, "Multi")
    return row.model_copy(update={"variant": row.variant.replace("Multi", "Multi, tuned", 1)})


def comparator(network: NetworkEntry) -> NetworkEntry | None:
    """The classifier that is a multitask network without its decoder: the one of the same label."""
    if network.task is not Task.MULTITASK:
        return None
    same = (each for each in NETWORKS.values() if each.label == network.label)
    return next((each for each in same if each.task is Task.CLASSIFICATION), None)


def _is_generic(network: NetworkEntry) -> bool:
    return comparator(network) is not None


def _is_approach(network: NetworkEntry) -> bool:
    return network.task.segments and comparator(network) is None


def _single(config: Config, name: str) -> RunSpec:
    """The comparator trained like the multitask network `name`, on plain cross-entropy [paper, section 5.2.1]."""
    multi = make_spec(config, name, "multitask", loss=Loss())
    single = comparator(NETWORKS[name])
    assert single is not None
    options = config.networks[single.name].options if single.name in config.networks else {}
    return multi.model_copy(update={"network": single.name, "options": single.resolve(options), "task": single.task})
