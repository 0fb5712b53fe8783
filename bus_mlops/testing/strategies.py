"""`check_strategy`: what every strategy must satisfy, with the networks of a configuration."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.errors import BusMlopsError, ConfigError
from bus_mlops.evaluation.paper.published import paper_row
from bus_mlops.experiments.strategies import STRATEGIES, Row, Strategy, in_order
from bus_mlops.models.zoo import entry
from bus_mlops.testing.contract import ContractError, require


def check_strategy(strategy: Strategy[Any], config: Config) -> None:
    """Check a registered strategy with the networks of a configuration and its section of `strategy_settings`.

    It has a title, an explanation and one place among the tables. Its settings have defaults, are frozen, refuse
    unknown keys and survive YAML. Its rows have names of their own, stand beside rows that the paper has, each once,
    and hold specs that can be trained: of registered networks at sizes that they take, of one cohort, of the profile's
    seed, each of them once. Planning twice gives the same; naming networks only takes rows away, and a network that the
    strategy cannot use, or is not there, is refused. A search can start from its rows: it asks for all networks, of
    each of which the first row is its start, and with the defaults of the settings for what the paper prints.

    Args:
        strategy: The strategy, as `STRATEGIES` holds it.
        config: A configuration with at least one network that the strategy can use.

    Raises:
        ContractError: Something does not hold; the message says what, and of which row.
    """
    _check_heading(strategy)
    _check_settings(strategy.settings)
    settings = strategy.settings_of(config)
    rows = _rows(strategy, config, settings)
    require(bool(rows), f"{strategy.name}: no rows; it must raise ConfigError where no network fits (networks_of).")
    require(_rows(strategy, config, settings) == rows, f"{strategy.name}: planning twice gives other rows.")
    _check_names(strategy.name, rows)
    _check_paper(strategy.name, rows)
    _check_specs(strategy.name, config, rows)
    _check_choice_of_networks(strategy, config, settings, rows)
    _check_searchable(strategy, config)


def _check_heading(strategy: Strategy[Any]) -> None:
    name = strategy.name
    require(STRATEGIES.get(name) is strategy, f"{name} is not registered under its name.")
    require(name.isidentifier() and name == name.lower(), f"{name!r} must be a lower-case name, as in params.yaml.")
    require(strategy.title == strategy.title.strip() != "", f"{name}: the title {strategy.title!r} is empty or padded.")
    require(strategy.explanation.endswith("."), f"{name}: the explanation must be a sentence: {strategy.explanation!r}")
    require(in_order() == sorted(in_order(), key=lambda each: (each.order, each.name)), "the order is not one.")
    titles = [each.name for each in STRATEGIES.values() if each.title == strategy.title]
    require(titles == [name], f"{name}: {' and '.join(titles)} have the same title.")


def _check_settings(kind: type[NetworkChoice]) -> None:
    try:
        default = kind()
    except ValidationError as error:
        raise ContractError(f"{kind.__name__}: every field needs a valid default, but {error}") from error
    require(issubclass(kind, NetworkChoice), f"{kind.__name__} must derive from NetworkChoice.")
    require(
        default.networks is None and default.seeds == 1, f"{kind.__name__}: networks and seeds have other defaults."
    )
    again = kind.model_validate(default.model_dump(mode="json"))
    require(again == default, f"{kind.__name__}: written to YAML and read back, the defaults are {again!r}.")
    require(bool(kind.model_config.get("frozen")), f"{kind.__name__} must be frozen, as NetworkChoice is.")
    require(kind.model_config.get("extra") == "forbid", f"{kind.__name__} must refuse unknown keys.")


def _rows(strategy: Strategy[Any], config: Config, settings: NetworkChoice) -> list[Row]:
    try:
        return list(strategy.make_rows(config, settings))
    except BusMlopsError:
        raise
    except Exception as error:
        raise ContractError(f"{strategy.name} raises {type(error).__name__}: {error}") from error


def _check_names(strategy: str, rows: list[Row]) -> None:
    seen = set[tuple[str, str]]()
    for row in rows:
        where = f"{strategy}: the row {row.model!r}, {row.variant!r}"
        require(bool(row.model.strip()) and bool(row.variant.strip()), f"{where} has an empty name.")
        require((row.model, row.variant) not in seen, f"{where} is there twice.")
        seen.add((row.model, row.variant))
        said = row.per_fold or row.parameters or row.choice
        require(not said, f"{where} says what was chosen for each fold, which a search does (`searches`).")
        # One of a family is chosen by its F1 on validation.
        require(not row.family or row.spec.task.classifies, f"{where} is of a family, but names no class.")


def _check_paper(strategy: str, rows: list[Row]) -> None:
    seen = set[tuple[int, str, str]]()
    for row in rows:
        if row.paper is None:
            continue
        key = row.paper.table, row.paper.model, row.paper.variant
        require(
            paper_row(*key) is not None, f"{strategy}: {row.variant!r} stands beside {key}, which is not published."
        )
        require(key not in seen, f"{strategy}: the published row {key} has two rows of ours beside it.")
        seen.add(key)


def _check_specs(strategy: str, config: Config, rows: list[Row]) -> None:
    variants: dict[str, str] = {}
    for row in rows:
        if row.members:
            where = f"{strategy}: the ensemble {row.model!r}"
            require(Row.model_validate_json(row.model_dump_json()) == row, f"{where} does not survive the plan file.")
            cohorts = {each.spec.cohort for each in (row, rows[0], *row.members)}
            require(len(cohorts) == 1, f"{where} is on {len(cohorts)} cohorts: a table has one.")
            continue
        where, spec = f"{strategy}: the spec of {row.model!r}, {row.variant!r}", row.spec
        require(Row.model_validate_json(row.model_dump_json()) == row, f"{where} does not survive the plan file.")
        network = entry(spec.network)
        network.check_size(spec.training.input_size)
        network.check_pretrained(spec.training.weights, spec.training.scaling, spec.options)
        require(spec.task is network.task, f"{where} has the task {spec.task}, its network is for {network.task}.")
        require(spec.options == network.resolve(spec.options), f"{where} lacks options of {network.name}.")
        require(spec.code == network.code, f"{where} does not name the code of its network.")
        require(spec.seed == config.seed, f"{where} has the seed {spec.seed}: seeds are `strategy_settings`'s.")
        cohort = rows[0].spec.cohort
        require(
            spec.cohort == cohort, f"{where} is on {spec.cohort}, the first row on {cohort}: a table has one cohort."
        )
        same = variants.setdefault(str(spec.canonical()), row.variant)
        require(same == row.variant, f"{where} computes the same as {same!r}.")


def _check_choice_of_networks(
    strategy: Strategy[Any], config: Config, settings: NetworkChoice, rows: list[Row]
) -> None:
    name, refused = strategy.name, 0
    for network in config.networks:
        chosen = settings.model_copy(update={"networks": (network,)})
        try:
            fewer = _rows(strategy, config, chosen)
        except ConfigError as error:
            require(network in str(error), f"{name}: the refusal of {network} must name it: {error}")
            refused += 1
            continue
        if settings.networks is None:
            other = [row.variant for row in fewer if row not in rows]
            require(not other, f"{name}: with the network {network} alone there are other rows: {other}")
    require(refused < len(config.networks), f"{name} refuses every network of the configuration by name.")
    try:
        strategy_rows = _rows(strategy, config, settings.model_copy(update={"networks": ("no_such_network",)}))
    except BusMlopsError as error:
        require("no_such_network" in str(error), f"{name}: a network that is not there must be named: {error}")
    else:
        raise ContractError(f"{name}: {len(strategy_rows)} rows of a network that is not there.")


def _check_searchable(strategy: Strategy[Any], config: Config) -> None:
    """A search makes rows of all networks, with the settings of the profile and with their defaults."""
    for settings in (strategy.settings_of(config).model_copy(update={"networks": None}), strategy.settings()):
        try:
            _rows(strategy, config, settings)
        except BusMlopsError as error:
            raise ContractError(f"{strategy.name}: no search can start from it, with {settings!r}: {error}") from error
