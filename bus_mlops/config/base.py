"""What every section of the configuration is built on, and what validation is told of the registries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo


class Strict(BaseModel):
    """Base of all configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Known:
    """What the registries hold, handed to validation as its context, so that the schema depends on none of them.

    `sources` says of each source whether it has masks; `strategies` are the names that may be planned.
    """

    sources: Mapping[str, bool]
    strategies: tuple[str, ...]


def known(info: ValidationInfo[Any]) -> Known | None:
    """The registries that this validation was given; None for values that were checked before, as in a record."""
    return info.context if isinstance(info.context, Known) else None
