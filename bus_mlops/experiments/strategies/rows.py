"""What all strategies build with: a row, the spec behind it, the networks that a strategy uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from pydantic import Field, ValidationError

from bus_mlops.config import IMPORTED_FOLDS, Config, NetworkChoice, NetworkConfig, Training
from bus_mlops.config.base import Strict
from bus_mlops.errors import ConfigError
from bus_mlops.evaluation.paper.published import paper_row
from bus_mlops.models.entry import OF_PROBES, NetworkEntry
from bus_mlops.models.zoo import entry
from bus_mlops.spec import RunSpec, Task

# Of a linear probe: one value for all that does not act on it, so that it makes no difference in a fingerprint.
_OF_NO_STEPS = {"dropout": 0.0, "augmentation": {}, "loss": {}, "optimizer": {"name": "adam"}, "epochs": 1}


class PaperRow(Strict):
    """Where the paper prints its own number for a row."""

    table: int
    model: str
    variant: str


class Row(Strict):
    """One row of a strategy's table.

    Attributes:
        family: Groups the variants of a model of which the paper shows one, chosen on validation: Table 6's weights and
            focal parameters. Empty elsewhere.
        standard_errors: By how many of the difference another row of the family must beat the paper's.
        per_fold: The spec of each fold (1-based) where a search chose it, which may differ from fold to fold.
        parameters: What was chosen for each of these folds.
        choice: How: nested is made for each fold on images outside its test part, flat is not.
        members: Of an ensemble the rows whose predictions it averages; nothing is trained for itself, and no network
            bears the name in its spec.
    """

    model: str
    variant: str
    family: str = ""
    standard_errors: float = Field(default=1.0, ge=0)
    paper: PaperRow | None
    spec: RunSpec
    per_fold: dict[int, RunSpec] = Field(default_factory=dict)
    parameters: dict[int, dict[str, Any]] = Field(default_factory=dict)
    choice: Literal["", "nested", "flat"] = ""
    members: tuple[Row, ...] = ()

    @property
    def parts(self) -> tuple[Row, ...]:
        """The rows that something is trained for: the members of an ensemble, or the row itself."""
        return self.members or (self,)

    def spec_of(self, fold: int) -> RunSpec:
        """What the row is trained with on a fold (1-based)."""
        return self.per_fold.get(fold, self.spec)


def make_row(
    spec: RunSpec, variant: str, table: int | None = None, family: str = "", standard_errors: float = 1.0
) -> Row:
    """The row of a spec, beside the paper's of that table, network and variant if there is one.

    Args:
        spec: What is trained.
        variant: Its name in the table.
        table: The number of the paper's table; None for a strategy that the paper does not have.
        family: As in `Row`.
        standard_errors: As in `Row`.

    Raises:
        NetworkError: The network cannot take images of the spec's size.
    """
    network = entry(spec.network)
    network.check_size(spec.training.input_size)
    # The paper starts every network that can from ImageNet, but for Table 4's S: a row that does not must say so.
    scratch = spec.training.weights == "random" and bool(network.backbone) and variant != "S"
    radiology = spec.training.weights == "radimagenet"  # which the paper has nowhere
    return Row(
        model=network.title(spec.options),
        variant=variant + (", from scratch" if scratch else ", RadImageNet" if radiology else ""),
        family=family,
        standard_errors=standard_errors,
        paper=None if table is None or radiology else _paper(table, network, variant),
        spec=spec,
    )


def make_spec(config: Config, name: str, cohort: str, **changes: object) -> RunSpec:
    """The spec of a network of the profile: `training`, then the network's own settings, then `changes`.

    Raises:
        ConfigError: The network is not in the profile, or a change is not allowed.
        NetworkError: An option or start cannot be.
    """
    try:
        network = config.networks[name]
    except KeyError:
        known = ", ".join(config.networks) or "none"
        raise ConfigError(f"networks.{name} is missing; params.yaml has: {known}") from None
    registered = entry(name)
    _check_effects(name, network, registered)
    values = config.training.model_dump()
    values.update(_overrides(network))
    values.update({k: v.model_dump() if isinstance(v, Strict) else v for k, v in changes.items()})
    if registered.probe:
        values = {k: v for k, v in values.items() if k in OF_PROBES} | _OF_NO_STEPS
    if values["input_size"] == "original":
        values["input_size"] = registered.input_size
    if values["scaling"] == "original":
        values["scaling"] = registered.scaling
    # Made folds have that fraction already; imported ones have their own, whatever params.yaml says.
    if values["validation"] == config.folds.validation and config.folds.kind not in IMPORTED_FOLDS:
        values["validation"] = None
    try:
        training = Training.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"networks.{name}: {error.errors()[0]['msg']}") from error
    registered.check_pretrained(training.weights, training.scaling, network.options)
    return RunSpec(
        network=name,
        options=registered.resolve(network.options),
        cohort=config.cohorts[cohort],
        task=registered.task,
        training=training,
        seed=config.seed,
        code=registered.code,
    )


def networks_of(
    config: Config, strategy: str, settings: NetworkChoice, fits: Callable[[NetworkEntry], bool], kind: str
) -> Iterator[tuple[str, NetworkEntry]]:
    """The profile's networks that a strategy uses, by name: those of its settings, or all that fit.

    Args:
        config: The profile.
        strategy: Its name.
        settings: Name the networks, or none.
        fits: Whether the strategy can use one.
        kind: Says in messages which networks fit.

    Raises:
        ConfigError: A network of the settings does not fit, or none does.
    """
    wanted = settings.networks
    found = [(name, entry(name)) for name in (config.networks if wanted is None else wanted)]
    for name, network in found:
        if wanted is not None and not fits(network):
            raise ConfigError(f"strategy_settings.{strategy}.networks must be {kind} but names {name!r}")
    fitting = [(name, network) for name, network in found if fits(network)]
    if not fitting:
        raise ConfigError(
            f"the strategy {strategy} needs {kind}, and `networks` of params.yaml has none: add one, or take "
            f"{strategy} out of `strategies`"
        )
    yield from fitting


def classifiers_of(config: Config, strategy: str, settings: NetworkChoice) -> Iterator[tuple[str, NetworkEntry]]:
    """`networks_of` for a strategy of classifiers: networks that only name a class, without those since the paper."""

    def fits(network: NetworkEntry) -> bool:
        return network.task is Task.CLASSIFICATION and not network.since_the_paper

    return networks_of(config, strategy, settings, fits, "classifiers outside the table since_the_paper")


def _check_effects(name: str, network: NetworkConfig, registered: NetworkEntry) -> None:
    """What a network sets for itself must have an effect; `training.loss` is a default for networks of any task."""
    if registered.probe:
        for key in _overrides(network):
            if key not in OF_PROBES:
                raise ConfigError(
                    f"networks.{name}.{key} has no effect, since {name} is not trained by steps: remove it. A linear "
                    f"probe depends on {', '.join(OF_PROBES)}."
                )
    if network.head_initializer is not None and not registered.task.classifies:
        raise ConfigError(f"networks.{name}.head_initializer has no effect, since {name} names no class: remove it")
    if network.loss is None:
        return
    if not registered.task.classifies:
        raise ConfigError(f"networks.{name}.loss has no effect, since the loss of {name} is Dice alone: remove it")
    if not registered.task.segments and "mask_weight" in network.loss.model_fields_set:
        raise ConfigError(f"networks.{name}.loss.mask_weight has no effect, since {name} draws no mask: remove it")


def _overrides(network: NetworkConfig) -> dict[str, object]:
    return {k: v for k, v in network.model_dump(exclude={"options"}).items() if v is not None}


def _paper(table: int, network: NetworkEntry, variant: str) -> PaperRow | None:
    model = network.published or network.label
    if paper_row(table, model, variant) is None:
        return None
    return PaperRow(table=table, model=model, variant=variant)
