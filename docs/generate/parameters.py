"""The reference of `params.yaml`, made from its schema: every key with meaning, unit, values and default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
# A description ends with the unit of the key's numbers: "of one step [images]".
UNIT = re.compile(r"\s*\[([^\[\]]+)\]$")
NUMBERS = {"integer", "number"}
# What stands in a path for a name that the user gives, by the section.
NAMES = {"searches": "NAME", "networks": "NETWORK", "cohorts": "NAME", "space": "PATH", "when": "PATH"}


@dataclass(frozen=True)
class Key:
    """A key of `params.yaml`, whose own keys, if it has any, are keys of their own.

    Attributes:
        path: Its dotted name; names that the user gives are in capitals.
        only: For what it is there, such as `kind: focal`; empty: always.
        text: Its description without the unit.
        unit: Of its numbers; empty: none.
        values: What it may be, as Markdown.
        numeric: Whether it takes numbers.
        default: As YAML; None: it must be there.
    """

    path: str
    only: str
    text: str
    unit: str
    values: str
    numeric: bool
    default: str | None


class Sections:
    """Walks the schema; a model that several keys share is told once, at the first."""

    def __init__(self, schema: Schema) -> None:
        self._models: Mapping[str, Schema] = schema["$defs"]
        self._schema = schema
        self._told: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[str, str, list[Key]]]:
        """Each top-level key that has keys, with its explanation; first, under no name, those that have none."""
        sections = {name: list(self._key(self._schema, name, "")) for name in self._schema["properties"]}
        yield "", "", [key for keys in sections.values() if len(keys) == 1 for key in keys]
        for name, keys in sections.items():
            if len(keys) > 1:
                section, *rest = keys
                yield name, section.text, rest

    def _key(self, model: Schema, name: str, before: str, only: str = "") -> Iterator[Key]:
        schema: Schema = model["properties"][name]
        path = before + name
        models = list(self._models_of(schema))
        text, unit = self._described(schema, models)
        if before == "networks.NETWORK." and "description" not in schema:
            return  # one of training's
        first = self._told.get(models[0], "") if models else ""
        if first and not name.isupper():
            text = f"{text.rstrip('.')}; keys as of `{first}`"
        default = None if name in model.get("required", ()) else _yaml(schema.get("default", {}))
        numeric = bool(NUMBERS & set(self._types(schema)))
        yield Key(path, only, text, unit, self._values(schema), numeric, default)
        if first:
            return
        inside = self._placeholder(schema, name)
        kinds = self._kinds(models)
        if len(models) > 1 and all(kinds.values()):
            yield self._tag(models, f"{path}{inside}.")
        seen: set[str] = set()
        for each in models:
            self._told[each] = path + inside
            for key in self._models[each].get("properties", {}):
                alike = all(key in self._models[other]["properties"] for other in models)
                if key in seen or (len(models) > 1 and "const" in self._models[each]["properties"][key]):
                    continue
                seen |= {key} if alike else set()
                yield from self._key(self._models[each], key, f"{path}{inside}.", "" if alike else kinds[each])

    def _kinds(self, models: list[str]) -> dict[str, str]:
        """What tells the models of a union apart, such as `kind: focal`."""
        named = {}
        for each in models:
            constants = {k: v["const"] for k, v in self._models[each].get("properties", {}).items() if "const" in v}
            named[each] = ", ".join(f"{key}: {value}" for key, value in constants.items())
        return named

    def _tag(self, models: list[str], before: str) -> Key:
        """The key that tells them apart; each model's constant says what it stands for."""
        properties = [self._models[each]["properties"] for each in models]
        (name,) = (key for key, value in properties[0].items() if "const" in value)
        constants = [each[name] for each in properties]
        text = "; ".join(f"{each['const']}: {each['description']}" for each in constants)
        values = ", ".join(f"`{each['const']}`" for each in constants)
        return Key(before + name, "", text, "", values, False, constants[0]["const"])

    def _placeholder(self, schema: Schema, name: str) -> str:
        return f".{NAMES[name]}" if name in NAMES and "additionalProperties" in schema else ""

    def _models_of(self, schema: Schema) -> Iterator[str]:
        if "$ref" in schema:
            yield schema["$ref"].rsplit("/", 1)[1]
        for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from self._models_of(part)
        for inner in (schema.get("items"), schema.get("additionalProperties")):
            if isinstance(inner, Mapping):
                yield from self._models_of(inner)

    def _described(self, schema: Schema, models: list[str]) -> tuple[str, str]:
        text = schema.get("description", "")
        if not text and len(models) == 1 and "additionalProperties" not in schema:
            text = self._models[models[0]].get("description", "")
        elif not text:
            text = " ".join(self._models[each].get("description", "") for each in models if "properties" in schema)
        unit = UNIT.search(text)
        return UNIT.sub("", text).strip(), unit[1] if unit else ""

    def _types(self, schema: Schema) -> Iterator[str]:
        yield schema.get("type", "")
        for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from self._types(part)
        for inner in (schema.get("items"), schema.get("additionalProperties")):
            if isinstance(inner, Mapping) and "$ref" not in inner:
                yield from self._types(inner)

    def _values(self, schema: Schema) -> str:
        parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
        if parts:
            several = dict.fromkeys(self._values(part) for part in parts)
            return ", or ".join(filter(None, several))
        if "const" in schema:
            return f"`{schema['const']}`"
        if "enum" in schema:
            return ", ".join(f"`{each}`" for each in schema["enum"])
        kind = schema.get("type", "")
        if kind in NUMBERS:
            return _range(schema)
        if kind == "array":
            return f"list: {self._values(schema['items'])}" if self._values(schema["items"]) else "list"
        if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
            inner = self._values(schema["additionalProperties"])
            return f"by name: {inner}" if inner else "by name"
        words = {"boolean": "`true`, `false`", "string": "text", "null": "`null`"}
        return words.get(kind, "keys below" if "$ref" in schema else "number")


def _range(schema: Schema) -> str:
    kind = "whole number" if schema["type"] == "integer" else "number"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[name]:,}" for name, sign in signs.items() if name in schema]
    return " ".join([kind, ", ".join(limits)]).strip()


def _yaml(value: Any) -> str:
    """One line of YAML: JSON is, but its quotes are not needed."""
    if isinstance(value, str):
        return value
    return re.sub(r'"([\w./-]+)"', r"\1", json.dumps(value, ensure_ascii=False))


def sections() -> Iterator[tuple[str, str, list[Key]]]:
    """The sections of `params.yaml` by the registries of an installation without extensions."""
    from bus_mlops.project import config_model

    return iter(Sections(config_model().model_json_schema()))


def page() -> str:
    """The tables of all sections, as Markdown."""
    return "\n".join(_section(*each) for each in sections())


def _section(name: str, text: str, keys: list[Key]) -> str:
    title = f"## `{name}`" if name else "## At the top"
    rows = "\n".join(_row(key, name) for key in keys)
    return f"{title}\n\n{text}\n\n| key | meaning | unit | values | default |\n|---|---|---|---|---|\n{rows}\n"


def _row(key: Key, section: str) -> str:
    where = key.path.removeprefix(f"{section}.")
    meaning = f"(`{key.only}`) {key.text}" if key.only else key.text
    default = "**required**" if key.default is None else f"`{key.default}`"
    anchor = re.sub(r"[^a-z0-9]+", "-", f"{key.path} {key.only}".lower()).strip("-")
    cells = (f'<span id="{anchor}"></span>`{where}`', meaning, key.unit, key.values, default)
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
