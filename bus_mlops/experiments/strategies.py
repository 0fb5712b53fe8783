"""The paper's strategies as small declarations: each yields the rows of one of its tables.

A row is a model, a variant and the `RunSpec` behind it. Rows of different strategies may share a spec
(Table 5's "Aug" is Table 6's "BCE"); it is trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import ValidationError

from bus_mlops.config import Augmentation, Config, Loss, NetworkConfig, Strict, Training
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.models.zoo import entry

NO_AUGMENTATION = Augmentation()
# The weights that the paper chose on validation for its Table 6 [section 5.1]; others use 3.
WEIGHTED_CROSS_ENTROPY = {"densenet121": 4.0}


class PaperRow(Strict):
    """Where the paper prints its own number for a row."""

    table: int
    model: str
    variant: str


class Row(Strict):
    """One row of a strategy's table."""

    model: str
    variant: str
    paper: PaperRow | None
    spec: RunSpec


def transfer_learning(config: Config) -> Iterator[Row]:
    """Table 4: from scratch (S) against ImageNet weights (TL), without augmentation."""
    for name, network in _classifiers(config):
        for variant, weights in (("S", "random"), ("TL", "imagenet")):
            spec = make_spec(config, name, "all", weights=weights, augmentation=NO_AUGMENTATION)
            yield Row(model=_title(config, name), variant=variant, paper=_paper(4, network, variant), spec=spec)


def augmentation(config: Config) -> Iterator[Row]:
    """Table 5: without against with the paper's four augmentations."""
    for name, network in _classifiers(config):
        for variant, change in (("No Aug", NO_AUGMENTATION), ("Aug", config.training.augmentation)):
            spec = make_spec(config, name, "all", augmentation=change)
            yield _row(config, name, variant, _paper(5, network, variant), spec)


def losses(config: Config) -> Iterator[Row]:
    """Table 6: cross-entropy against weighted cross-entropy."""
    for name, network in _classifiers(config):
        weight = WEIGHTED_CROSS_ENTROPY.get(name, 3.0)
        for variant, positive_weight in (("BCE", 1.0), (f"WBCE(w_z={weight:g})", weight)):
            spec = make_spec(config, name, "all", loss=Loss(positive_weight=positive_weight))
            yield _row(config, name, variant, _paper(6, network, variant), spec)


def approaches(config: Config) -> Iterator[Row]:
    """Tables 8 and 9: every network of the profile on the images that have masks, on the same folds."""
    for name in config.networks:
        network = entry(name)
        variant = "Multi" if network.task.segments else "Single"
        spec = make_spec(config, name, "multitask")
        yield Row(
            model=_title(config, name),
            variant=variant + _from_scratch(spec),
            # No network is in both: Table 8 has the common ones, Table 9 those made for ultrasound.
            paper=_paper(8, network, variant) or _paper(9, network, variant),
            spec=spec,
        )


STRATEGIES: dict[str, Callable[[Config], Iterator[Row]]] = {
    "transfer_learning": transfer_learning,
    "augmentation": augmentation,
    "losses": losses,
    "approaches": approaches,
}


def tuned(config: Config) -> Row:
    """MT-ESTAN with the loss weights that the search will have found; its spec holds the paper's until then."""
    spec = make_spec(config, "mt_estan", "multitask")
    return Row(
        model=_title(config, "mt_estan"),
        variant="Multi, tuned" + _from_scratch(spec),
        paper=PaperRow(table=9, model="MT-ESTAN", variant="Multi"),
        spec=spec,
    )


def make_spec(config: Config, name: str, cohort: str, **changes: object) -> RunSpec:
    """The spec of a network of the profile: `training`, then the network's own settings, then `changes`."""
    try:
        network = config.networks[name]
    except KeyError:
        known = ", ".join(config.networks) or "none"
        raise ConfigError(f"networks.{name} is missing; params.yaml has: {known}") from None
    registered = entry(name)
    values = config.training.model_dump()
    values.update(_overrides(network))
    values.update({k: v.model_dump() if isinstance(v, Strict) else v for k, v in changes.items()})
    if values["input_size"] == "original":
        values["input_size"] = registered.input_size
    try:
        training = Training.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"networks.{name}: {error.errors()[0]['msg']}") from error
    return RunSpec(
        network=name,
        options=registered.resolve(network.options),
        cohort=config.cohorts[cohort],
        task=registered.task,
        training=training,
        seed=config.seed,
    )


def _row(config: Config, name: str, variant: str, paper: PaperRow | None, spec: RunSpec) -> Row:
    return Row(model=_title(config, name), variant=variant + _from_scratch(spec), paper=paper, spec=spec)


def _overrides(network: NetworkConfig) -> dict[str, object]:
    return {k: v for k, v in network.model_dump(exclude={"options"}).items() if v is not None}


def _classifiers(config: Config) -> Iterator[tuple[str, NetworkEntry]]:
    for name in config.networks:
        network = entry(name)
        if not network.task.segments:
            yield name, network


def _title(config: Config, name: str) -> str:
    registered = entry(name)
    return registered.title(registered.resolve(config.networks[name].options))


def _from_scratch(spec: RunSpec) -> str:
    # The paper starts every network of these tables from ImageNet: a row that does not must say so.
    return ", from scratch" if spec.training.weights == "random" else ""


def _paper(table: int, network: NetworkEntry, variant: str) -> PaperRow | None:
    from bus_mlops.evaluation.paper import paper_row

    if paper_row(table, network.label, variant) is None:
        return None
    return PaperRow(table=table, model=network.label, variant=variant)
