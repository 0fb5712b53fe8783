"""Strategies: all keep their contract, what breaks it is named, and a user's own is known to the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Config, NetworkChoice
from bus_mlops.errors import ConfigError, ExtensionError
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.strategies import (
    STRATEGIES,
    PaperRow,
    Row,
    Strategy,
    classifiers_of,
    in_order,
    make_row,
    make_spec,
    strategy,
)
from bus_mlops.extensions import load_extensions
from bus_mlops.project import load_config, parse_config
from bus_mlops.testing.contract import ContractError
from bus_mlops.testing.strategies import check_strategy

NAMES = ("transfer_learning", "augmentation", "losses", "optimizers", "multitask", "approaches", "since_the_paper")
OWN = """
from bus_mlops.experiments.strategies import classifiers_of, make_row, make_spec, strategy
from bus_mlops.config import NetworkChoice


class RateSettings(NetworkChoice):
    rates: tuple[float, ...] = (0.1, 0.01)


@strategy(order=20, title="Rates", explanation="Learning rates.", settings=RateSettings)
def rates(config, settings):
    for name, _ in classifiers_of(config, "rates", settings):
        for rate in settings.rates:
            optimizer = config.training.optimizer.model_copy(update={"learning_rate": rate})
            yield make_row(make_spec(config, name, "all", optimizer=optimizer), f"rate {rate:g}")
"""


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Runs a file of `extensions`, whose strategies are forgotten afterwards."""
    (tmp_path / "extensions").mkdir()
    monkeypatch.chdir(tmp_path)

    def run(text: str) -> None:
        Path("extensions/own.py").write_text(text)
        load_extensions(Path("extensions"))

    yield run
    load_extensions(tmp_path / "nothing")


@pytest.mark.parametrize("profile", profiles.NAMES)
def test_every_strategy_of_a_profile_keeps_the_contract(profile):
    config = parse_config(yaml.safe_load(profiles.text(profile)))
    for name in config.strategies:
        check_strategy(STRATEGIES[name], config)
    assert profile in ("busi", "study") or set(config.strategies) == set(NAMES) - {"since_the_paper"}


def test_the_order_is_that_of_the_papers_tables():
    assert [each.name for each in in_order()] == list(NAMES)
    assert [each.order for each in in_order()] == [4, 5, 6, 7, 8, 9, 50]


def rows_of(config: Config, settings: NetworkChoice, **row: Any) -> Iterator[Row]:
    for name, _ in classifiers_of(config, "broken", settings):
        yield make_row(make_spec(config, name, "all"), "plain").model_copy(update=row)


def twice(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    yield from rows_of(config, settings)
    yield from rows_of(config, settings)


def same_spec(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    yield from rows_of(config, settings)
    yield from rows_of(config, settings, variant="again")


def any_network(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    yield make_row(make_spec(config, "mobilenet", "all"), "plain")


def two_cohorts(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    for cohort in ("all", "multitask"):
        yield make_row(make_spec(config, "mobilenet", cohort), cohort)


def another_seed(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    for row in rows_of(config, settings):
        yield row.model_copy(update={"spec": row.spec.model_copy(update={"seed": 1})})


def failing(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    raise KeyError("mobilenet")


def beside_nothing(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    yield from rows_of(config, settings, paper=PaperRow(table=4, model="MobileNet", variant="plain"))


def chosen(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    yield from rows_of(config, settings, parameters={1: {"dropout": 0.5}}, choice="nested")


class RateSettings(NetworkChoice):
    rates: tuple[float, ...] = ()


def needs_a_rate(config: Config, settings: RateSettings) -> Iterator[Row]:
    if not settings.rates:
        raise ConfigError("name a rate")
    yield from rows_of(config, settings)


def nothing(config: Config, settings: NetworkChoice) -> Iterator[Row]:
    yield from ()


class WithoutDefault(NetworkChoice):
    rate: float


class OtherDefault(NetworkChoice):
    seeds: int = 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": " "}, "title ' ' is empty or padded"),
        ({"title": "Losses"}, "have the same title"),
        ({"explanation": ""}, "must be a sentence"),
        ({"settings": WithoutDefault}, "every field needs a valid default"),
        ({"settings": OtherDefault}, "networks and seeds have other defaults"),
        ({"make_rows": twice}, "is there twice"),
        ({"make_rows": same_spec}, "'again' computes the same as 'plain, from scratch'"),
        ({"make_rows": any_network}, "rows of a network that is not there"),
        ({"make_rows": two_cohorts}, "a table has one cohort"),
        ({"make_rows": another_seed}, "has the seed 1"),
        ({"make_rows": beside_nothing}, "which is not published"),
        ({"make_rows": failing}, "raises KeyError"),
        ({"make_rows": nothing}, "no rows"),
        ({"make_rows": chosen}, "says what was chosen for each fold"),
    ],
)
def test_what_breaks_the_contract_is_named(demo_values, monkeypatch, changes, message):
    good = Strategy("broken", 30, "Broken", "It breaks.", NetworkChoice, rows_of)
    monkeypatch.setitem(STRATEGIES, "broken", good)
    config = parse_config(demo_values)
    check_strategy(good, config)
    broken: Strategy[Any] = replace(good, **changes)
    monkeypatch.setitem(STRATEGIES, "broken", broken)
    with pytest.raises(ContractError, match=message):
        check_strategy(broken, config)


def test_without_rows_by_default_no_search_can_start_from_a_strategy(demo_values, monkeypatch):
    broken: Strategy[Any] = Strategy("broken", 30, "Broken", "It breaks.", RateSettings, needs_a_rate)
    monkeypatch.setitem(STRATEGIES, "broken", broken)
    demo_values["strategy_settings"]["broken"] = {"rates": [0.1]}
    with pytest.raises(ContractError, match=r"no search can start from it, with .*: name a rate"):
        check_strategy(broken, parse_config(demo_values))


def test_a_strategy_of_the_users_own_is_planned_and_its_settings_are_checked(extension, demo_values, demo):
    extension(OWN)
    demo_values["strategies"] = ["losses", "rates"]
    demo_values["strategy_settings"]["rates"] = {"networks": ["mobilenet"], "rates": [0.5], "seeds": 2}
    config = parse_config(demo_values)
    check_strategy(STRATEGIES["rates"], config)
    plan = make_plans(config)["rates"]
    assert (plan.title, plan.order, plan.explanation) == ("Rates", 20, "Learning rates.")
    assert [row.variant for row in plan.rows] == ["rate 0.5, from scratch"]
    assert len(plan.unique_specs()) == 2
    assert parse_config(demo_values) == config
    demo_values["strategy_settings"]["rates"]["rate"] = [1]
    with pytest.raises(ConfigError, match=r"unknown key 'strategy_settings.rates.rate': did you mean 'rates'\?"):
        parse_config(demo_values)
    demo_values["strategy_settings"] = {"rate": {}}
    with pytest.raises(ConfigError, match=r"unknown key 'strategy_settings.rate': did you mean 'rates'\?"):
        parse_config(demo_values)
    demo_values["strategy_settings"] = {"rates": {"rates": ["fast"]}}
    with pytest.raises(ConfigError, match=r"strategy_settings.rates.rates.0 = 'fast'"):
        parse_config(demo_values)
    Path("extensions/own.py").unlink()
    Path("params.yaml").write_text(yaml.safe_dump(demo_values))
    with pytest.raises(ConfigError, match=r"strategies.1 = 'rates': must be one of transfer_learning, .*approaches"):
        load_config()


@pytest.mark.parametrize("name", ["all", "sizes"])
def test_a_name_that_means_something_else_is_refused(extension, name):
    with pytest.raises(ExtensionError, match=f"cannot be called '{name}'"):
        extension(OWN.replace("def rates", f"def {name}"))
    assert name not in STRATEGIES


def test_settings_without_a_default_are_refused(extension):
    with pytest.raises(ExtensionError, match=r"RateSettings of the strategy 'rates': every field needs a default"):
        extension(OWN.replace("rates: tuple[float, ...] = (0.1, 0.01)", "rates: tuple[float, ...]"))


def test_a_name_is_registered_once():
    def losses(config: Config, settings: NetworkChoice) -> Iterator[Row]:
        yield from rows_of(config, settings)

    with pytest.raises(ConfigError, match="strategy 'losses' is registered twice"):
        strategy(order=1, title="", explanation="", settings=NetworkChoice)(losses)


def test_a_configuration_without_the_section_is_told_from_one_with_it(demo):
    bare = Config.model_validate(demo.model_dump(exclude={"strategy_settings", "promotion"}))
    with pytest.raises(ConfigError, match="strategy_settings has no LossesSettings for 'losses'"):
        STRATEGIES["losses"].settings_of(bare)
