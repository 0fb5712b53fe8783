"""A project's `params.yaml`, validated against what the registries of sources and strategies hold.

The schema in `config` knows neither; here the sections that depend on a registry are composed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, create_model

from bus_mlops import profiles
from bus_mlops.config import Config, NetworkChoice, PromotionConfig, StrategySettings
from bus_mlops.config.base import Known, Strict
from bus_mlops.config.mistakes import describe
from bus_mlops.config.parameter_file import read_parameters
from bus_mlops.errors import ConfigError
from bus_mlops.evaluation.metrics import judging_metrics
from bus_mlops.experiments.strategies import in_order
from bus_mlops.extensions import load_extensions
from bus_mlops.gate import gate
from bus_mlops.paths import EXTENSIONS, PARAMS
from bus_mlops.sources.registry import SOURCES


def load_config(path: Path = PARAMS) -> Config:
    """Read and validate a parameter file, after running the files of `extensions`, whose names it may use.

    Raises:
        ConfigError: Names key, value and remedy.
        ExtensionError: Names a file of `extensions` that cannot be run.
    """
    load_extensions(EXTENSIONS)
    try:
        parameters = read_parameters(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} not found in {Path.cwd()}. Run the command in the project folder, or write one with "
            "`bus-mlops profile demo`."
        ) from None
    return parse_config(parameters.values, str(path), parameters.lines)


def parse_config(
    values: dict[str, Any], where: str = "params.yaml", lines: Mapping[tuple[str, ...], int] | None = None
) -> Config:
    """Validate a mapping of parameters.

    Args:
        values: The parameters.
        where: What errors call the file.
        lines: In which line of it each key stands, by the keys that lead to it.

    Raises:
        ConfigError: Names key, value and neighbours.
    """
    model = config_model()
    try:
        return model.model_validate(values, context=_known())
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(describe(item, model, lines) for item in error.errors())) from None


def profile_config(name: str) -> Config:
    """A profile as it is delivered.

    Raises:
        ConfigError: The name is unknown.
    """
    return parse_config(yaml.safe_load(profiles.text(name)), f"profile {name}")


def config_model() -> type[Config]:
    """`Config` with the sections that the registries decide."""
    return _compose(strategy_section(), promotion_section())


def strategy_section() -> type[StrategySettings]:
    """`strategy_settings` with a field for each registered strategy."""
    return _strategy_section(tuple((each.name, each.settings, each.explanation) for each in in_order()))


def promotion_section() -> type[PromotionConfig]:
    """`promotion` with the limits of each registered rule of the gate, each below its own key."""
    return _promotion_section(tuple((each.name, each.limits) for each in gate.in_order()))


# One model for the same registries: pydantic takes objects of two models for unequal.
@lru_cache(maxsize=8)
def _compose(strategies: type[StrategySettings], promotion: type[PromotionConfig]) -> type[Config]:
    return create_model(
        "Config",
        __base__=Config,
        strategy_settings=(strategies, _section("strategy_settings", strategies)),
        promotion=(promotion, _section("promotion", promotion)),
    )


def _section(name: str, model: type[Strict]) -> Any:
    return Field(default_factory=model, description=Config.model_fields[name].description)


@lru_cache(maxsize=8)
def _strategy_section(settings: tuple[tuple[str, type[NetworkChoice], str], ...]) -> type[StrategySettings]:
    fields: dict[str, Any] = {
        name: (kind, Field(default_factory=kind, description=explanation)) for name, kind, explanation in settings
    }
    return create_model("StrategySettings", __base__=StrategySettings, **fields)


@lru_cache(maxsize=8)
def _promotion_section(limits: tuple[tuple[str, type[Strict]], ...]) -> type[PromotionConfig]:
    for name, model in limits:
        taken = sorted(model.model_fields.keys() & PromotionConfig.model_fields.keys())
        if taken:
            raise ConfigError(f"the gate rule {name} has a limit {taken[0]!r}, which promotion has already: rename it.")
    # Bases, not fields, so that the validators of the limits hold here too; a rule without limits adds nothing.
    bases: Any = tuple(dict.fromkeys(model for _, model in limits if model.model_fields))
    return create_model("PromotionConfig", __base__=(PromotionConfig, *bases))


def _known() -> Known:
    return Known(
        sources={name: source.has_masks for name, source in SOURCES.items()},
        strategies=tuple(each.name for each in in_order()),
        metrics=judging_metrics(),
    )
