"""What a rule of the gate is, and the registry of all rules."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bus_mlops.config.base import Strict
from bus_mlops.errors import ConfigError
from bus_mlops.gate.comparison import Comparison
from bus_mlops.registries import Registry

# The numbers of a verdict by name: fractions, counts, or words.
Values = Mapping[str, float | int | str]


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a comparison: whether it passed, the limit in words, a sentence for people, the numbers.

    `power` says what the rule could have seen with these images: "would have found +.03 in 18 %". One that had nothing
    to look at is not `judged`: it stands in nobody's way, and no report calls it passed.
    """

    passed: bool
    limit: str
    sentence: str
    values: Values = field(default_factory=dict)
    power: str = ""
    judged: bool = True


Judge = TypeVar("Judge", bound=Callable[[Comparison, Any], Verdict])


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule: how reports call it, the model of its limits, and its function.

    One that `needs_package` judges `comparison.package`, and is left out until there is one. Numbers that are not
    `exact` may differ between machines, so that verification compares the verdict only.
    """

    id: str
    title: str
    limits: type[Strict]
    judge: Callable[[Comparison, Any], Verdict]
    needs_package: bool = False
    exact: bool = True

    @property
    def name(self) -> str:
        """Id and title, as reports show them."""
        return f"{self.id} {self.title}"

    def limits_of(self, promotion: Mapping[str, Any]) -> Strict:
        """Its own limits among the keys of the section `promotion`; one that is not there has its default."""
        return self.limits.model_validate({key: promotion[key] for key in self.limits.model_fields if key in promotion})


RULES: Registry[Rule] = Registry("gate rule", ConfigError)


def rule(
    identifier: str, title: str, *, needs_package: bool = False, exact: bool | None = None
) -> Callable[[Judge], Judge]:
    """Register the decorated function as a rule of the gate, which every candidate must pass from then on.

    The function takes a `Comparison` and its limits and returns a `Verdict`; the annotation of its second parameter
    names the model of the limits, a subclass of `Strict` whose fields become keys of `promotion` in `params.yaml`.
    An EvaluationError that it raises is a refusal with that reason. Its numbers count as `exact`, the same on every
    machine, unless it `needs_package` and does not say so.

    Raises:
        ConfigError: The id is taken, or a key of the limits; or the limits are no such model or lack a default.
    """

    def register(function: Judge) -> Judge:
        limits = _limits_of(identifier, function)
        for other in RULES.values():
            shared = sorted(limits.model_fields.keys() & other.limits.model_fields.keys())
            if shared and other.id != identifier:
                raise ConfigError(
                    f"the gate rule {identifier} has a limit {shared[0]!r}, which belongs to {other.name}: rename it."
                )
        entry = Rule(
            identifier, title, limits, function, needs_package, exact=not needs_package if exact is None else exact
        )
        RULES.add(identifier, entry, function.__module__)
        return function

    return register


def in_order() -> list[Rule]:
    """All registered rules by id, numbers in it as numbers."""
    return sorted(RULES.values(), key=lambda each: _natural(each.id))


def id_of(function: Callable[..., Verdict]) -> str:
    """The id that a rule's function is registered by."""
    return next(each.id for each in RULES.values() if each.judge is function)


def _natural(identifier: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", identifier)]


def _limits_of(identifier: str, function: Callable[..., Any]) -> type[Strict]:
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    limits = parameters[1].annotation if len(parameters) == 2 else None
    if not (isinstance(limits, type) and issubclass(limits, Strict)):
        raise ConfigError(
            f"the gate rule {identifier} must be a function of (comparison, limits), the second annotated with a "
            "subclass of bus_mlops.config.base.Strict."
        )
    required = [name for name, each in limits.model_fields.items() if each.is_required()]
    if required:
        raise ConfigError(f"the limit {required[0]!r} of the gate rule {identifier} needs a default.")
    return limits
