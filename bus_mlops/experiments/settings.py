"""The settings of a spec by path, such as `loss.gamma` or `options.width`: what may be changed of it, and to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from bus_mlops.config.mistakes import kinds_of
from bus_mlops.config.searches import Value
from bus_mlops.config.training import Training
from bus_mlops.models.entry import OF_PROBES
from bus_mlops.models.zoo import entry
from bus_mlops.spec import RunSpec

# The values of trials that are judged on different images could not be compared.
NEVER = {"validation": "all trials must be judged on the same images"}


@dataclass(frozen=True)
class Setting:
    """What stands at a path.

    Attributes:
        type: Of its values: int, float, bool or str.
        values: All there are, of words and truth values; empty for numbers.
        section: The part of `training` it lies in, such as "loss"; empty for the others.
        key: Of a section of several kinds, what names the kind, such as "kind".
        kinds: The kinds of the section that have it.
    """

    type: type
    values: tuple[Value, ...] = ()
    section: str = ""
    key: str = ""
    kinds: tuple[str, ...] = ()

    @property
    def kind_path(self) -> str:
        """The path that says which kind its section is."""
        return f"{self.section}.{self.key}"


def settings_of(spec: RunSpec) -> dict[str, Setting]:
    """All that a search may change of a spec, by path: what has no effect on its network is not there."""
    task = spec.task
    without = {"head_initializer", *NEVER} if not task.classifies else set(NEVER)
    if not task.segments:
        without.add("loss.mask_weight")
    every = all_settings(spec)
    if entry(spec.network).probe:
        without |= {path for path, setting in every.items() if path not in OF_PROBES and setting.section != "options"}
    return {
        path: setting
        for path, setting in every.items()
        if path not in without and (setting.section != "loss" or task.classifies)
    }


def all_settings(spec: RunSpec) -> dict[str, Setting]:
    """Everything in the training and the options of a spec, by path, with or without an effect on its network."""
    found: dict[str, Setting] = {}
    for name, field in Training.model_fields.items():
        kinds = kinds_of(field.annotation)
        if not kinds:
            found[name] = _leaf(field.annotation)
            continue
        if getattr(spec.training, name) is None:  # off: there is nothing whose values could be changed
            continue
        for kind in kinds:
            for key, inner in kind.model.model_fields.items():
                path = f"{name}.{key}"
                named = key == kind.key
                leaf = Setting(str, tuple(each.name for each in kinds)) if named else _leaf(inner.annotation)
                have = (*found[path].kinds, kind.name) if path in found else (kind.name,)
                found[path] = Setting(leaf.type, leaf.values, name, kind.key, have)
    for name, rule in entry(spec.network).options.items():
        found[f"options.{name}"] = Setting(type(rule.default), tuple(rule.choices), "options")
    return found


def _leaf(annotation: Any) -> Setting:
    """A setting by the annotation of its field."""
    if get_origin(annotation) is Literal:
        return Setting(str, get_args(annotation))
    if annotation is bool:
        return Setting(bool, (False, True))
    if annotation in (int, float):
        return Setting(annotation)
    return next(_leaf(inner) for inner in get_args(annotation) if inner is not NoneType)


def switched(setting: Setting, old: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A section of another kind: what both have is kept, the rest is the new kind's default."""
    if old[setting.key] == kind:
        return dict(old)
    annotation = Training.model_fields[setting.section].annotation
    model = next(each.model for each in kinds_of(annotation) if each.name == kind)
    common = {name: value for name, value in old.items() if name in model.model_fields and name != setting.key}
    return {**model().model_dump(), **common}
