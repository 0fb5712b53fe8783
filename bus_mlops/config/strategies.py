"""What every strategy can be told, and the section to which each registered strategy adds its own settings."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo

from bus_mlops.config.base import Strict, known
from bus_mlops.errors import ConfigError


def _registered(name: str, info: ValidationInfo[Any]) -> str:
    registries = known(info)
    if registries is not None and name not in registries.strategies:
        raise ValueError(f"must be one of {', '.join(registries.strategies)} but got {name!r}")
    return name


StrategyName = Annotated[str, AfterValidator(_registered)]


class NetworkChoice(Strict):
    """What every strategy can be told; the settings of a strategy are this or derive from it."""

    networks: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="of the profile's networks; null: all that the strategy can use"
    )
    seeds: int = Field(
        default=1,
        ge=1,
        le=50,
        description="trainings of each row on each fold: with the profile's seed, the next, ... [trainings]",
    )


S = TypeVar("S", bound=NetworkChoice)


class StrategySettings(Strict):
    """The settings of each strategy, those that are not in `strategies` without effect.

    Here it has no field: `project.strategy_section` derives the model that has one for each registered strategy.
    """

    def of(self, strategy: str, kind: type[S]) -> S:
        """The settings of a strategy, which are of that kind.

        Raises:
            ConfigError: This section has none.
        """
        settings = getattr(self, strategy, None)
        if not isinstance(settings, kind):
            raise ConfigError(
                f"strategy_settings has no {kind.__name__} for {strategy!r}: was the configuration read with "
                "`bus_mlops.project`, after the strategy was registered?"
            )
        return settings
