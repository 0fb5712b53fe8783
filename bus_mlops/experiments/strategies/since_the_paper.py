"""What came after the paper, or beside it, in a table of its own: linear probes as a floor, and networks of today."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec, networks_of
from bus_mlops.experiments.strategies.strategy import STRATEGIES, strategy
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.models.zoo import entry
from bus_mlops.spec import Task

# In the spec of an ensemble, in place of a network's name.
ENSEMBLE = "ensemble"


class SinceThePaperSettings(NetworkChoice):
    """Of which images, what starts from RadImageNet's weights, and which rows are averaged."""

    cohort: Literal["all", "multitask"] = Field(
        default="multitask", description="whose images: those of Tables 4 to 7, or those of Tables 8 and 9 [cohort]"
    )
    radimagenet: tuple[str, ...] = Field(
        default=(), description="of the profile's networks: a row each from RadImageNet's weights, with their scaling"
    )
    ensembles: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="by name: STRATEGY/NETWORK, or STRATEGY/NETWORK/VARIANT, of rows whose predictions are averaged",
    )

    @model_validator(mode="after")
    def _several_each(self) -> Self:
        for name, members in self.ensembles.items():
            if len(set(members)) < max(2, len(members)):
                raise ValueError(
                    f"ensembles.{name} must name two rows or more, none twice, but got {', '.join(members)}"
                )
            for member in members:
                if not 2 <= len(member.split("/", 2)) <= 3:
                    raise ValueError(
                        f"ensembles.{name} must be STRATEGY/NETWORK or STRATEGY/NETWORK/VARIANT: {member!r}"
                    )
        return self


@strategy(
    order=50,
    title="Since the paper",
    explanation="What the paper does not have: a linear probe, which is the features of a frozen encoder and logistic "
    "regression on them, as the floor of every table; networks and weights that came later; and ensembles, the means "
    "of the probabilities that rows give the same image, of a fold that none of them was trained on.",
    settings=SinceThePaperSettings,
)
def since_the_paper(config: Config, settings: SinceThePaperSettings) -> Iterator[Row]:
    """One row for each network that the paper's tables have no place for, for each with other weights, and ensemble."""
    rows = list(_networks(config, settings))
    yield from rows
    for name in settings.ensembles:
        yield _ensemble(config, settings, name, rows)


def _networks(config: Config, settings: SinceThePaperSettings) -> Iterator[Row]:
    def fits(network: NetworkEntry) -> bool:
        return network.since_the_paper or network.name in settings.radimagenet

    for name in settings.radimagenet:
        if name not in config.networks:
            raise ConfigError(
                "strategy_settings.since_the_paper.radimagenet must be among the networks "
                f"({', '.join(config.networks)}) but got {name!r}"
            )
    if settings.ensembles and settings.networks is None and not any(fits(entry(name)) for name in config.networks):
        return
    kind = "networks since the paper, such as linear_probe_mobilenet"
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


def _ensemble(config: Config, settings: SinceThePaperSettings, name: str, own: Sequence[Row]) -> Row:
    where = f"strategy_settings.since_the_paper.ensembles.{name}"
    members = tuple(_member(config, settings, where, reference, own) for reference in settings.ensembles[name])
    for row in members:
        if not row.spec.task.classifies:
            raise ConfigError(f"{where} names {row.model}, which only draws masks: there is nothing to average")
        if row.spec.cohort != config.cohorts[settings.cohort]:
            raise ConfigError(
                f"{where} names {row.model} {row.variant} on {', '.join(row.spec.cohort)}, and this table is on "
                f"{', '.join(config.cohorts[settings.cohort])} (since_the_paper.cohort)"
            )
    # What evaluation reads of a spec: the images, and that there are probabilities.
    spec = members[0].spec.model_copy(
        update={"network": ENSEMBLE, "options": {}, "task": Task.CLASSIFICATION, "code": ""}
    )
    titles = " + ".join(f"{row.model} {row.variant}" for row in members)
    return Row(model=f"Ensemble {name}", variant=f"Mean of {titles}", paper=None, spec=spec, members=members)


def _member(config: Config, settings: SinceThePaperSettings, where: str, reference: str, own: Sequence[Row]) -> Row:
    """The one row that a reference names."""
    strategy, network, *variant = reference.split("/", 2)
    rows: Sequence[Row] = own
    if strategy != "since_the_paper":
        if strategy not in config.strategies:
            there = ", ".join(config.strategies)
            raise ConfigError(f"{where} names {reference}, and {strategy!r} is not among the strategies ({there})")
        other = STRATEGIES.get_known(strategy)
        seeds = other.settings_of(config).seeds
        if seeds < settings.seeds:
            raise ConfigError(
                f"{where} names {reference}, which is trained with {seeds} seeds, and this table has {settings.seeds}: "
                "an ensemble averages what is recorded. Give both as many"
            )
        rows = list(other.make_rows(config, other.settings_of(config)))
    found = [row for row in rows if row.spec.network == network and variant in ([], [row.variant])]
    if len(found) != 1:
        there = ", ".join(f"{strategy}/{row.spec.network}/{row.variant}" for row in rows)
        raise ConfigError(f"{where} names {reference}, which is {len(found)} rows and must be one; there are {there}")
    return found[0]
