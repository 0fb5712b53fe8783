"""What every section of the configuration is built on, and what validation is told of the registries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, ValidationInfo


class Strict(BaseModel):
    """Base of all configuration: frozen, and unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def kind_named_by(field: str, *kinds: str) -> Discriminator:
    """For a union of models, one a kind (its `Tag`): the field that names the kind, the first kind if left out."""

    def kind(value: Any) -> str:
        given = value.get(field, kinds[0]) if isinstance(value, Mapping) else getattr(value, field, kinds[0])
        return str(given)

    return Discriminator(
        kind, custom_error_type="unknown_kind", custom_error_message=f"{field} must be one of {', '.join(kinds)}"
    )


@dataclass(frozen=True)
class Known:
    """What the registries hold, handed to validation as its context, so that the schema depends on none of them.

    Attributes:
        sources: Says of each source whether it has masks.
        strategies: The names that may be planned.
        metrics: Those that a model may be judged by.
    """

    sources: Mapping[str, bool]
    strategies: tuple[str, ...]
    metrics: tuple[str, ...]


def known(info: ValidationInfo[Any]) -> Known | None:
    """The registries that this validation was given; None for values that were checked before, as in a record."""
    return info.context if isinstance(info.context, Known) else None


def _registered_metric(name: str, info: ValidationInfo[Any]) -> str:
    registries = known(info)
    if registries is not None and name not in registries.metrics:
        raise ValueError(f"no such metric of probabilities; there are: {', '.join(registries.metrics)}")
    return name


MetricName = Annotated[str, AfterValidator(_registered_metric)]
