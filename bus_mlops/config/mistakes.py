"""What pydantic found wrong with a parameter file, in the words of the file: its keys, and what they could be."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, Tag

from bus_mlops.config.former import FORMER

Model = type[BaseModel]
# What to write for a key that came later and that DVC needs.
MISSING = {"searches": ": write `searches: {}` to search nothing, or bring a profile's"}


class Kind(NamedTuple):
    """One of the models that a section may be, the key that names it, and the name; both empty for an only model."""

    model: Model
    key: str
    name: str


class Place(NamedTuple):
    """A section of the file: the keys that lead to it, its model as far as that is decided, all that it may be."""

    path: tuple[str, ...]
    kind: Kind | None
    kinds: tuple[Kind, ...]


def describe(error: Any, root: Model, lines: Mapping[tuple[str, ...], int] | None = None) -> str:
    """One of `ValidationError.errors()` of a mapping that was to be `root`: the line, key, value, what is allowed.

    Args:
        error: The one.
        root: The model of the whole file.
        lines: In which line of the file each key stands, by the keys that lead to it; without, no line is named.
    """
    # Names of validators, such as `function-after[...]`, stand among the keys.
    parts = [part for part in error["loc"] if not (isinstance(part, str) and "[" in part)]
    if error["type"] == "extra_forbidden":
        place, key = _follow(parts[:-1], root), str(parts[-1])
        return _line(lines, (*place.path, key)) + _unknown_key(place, key, error["input"])
    path = _follow(parts, root).path
    return _line(lines, path) + _mistake(error, ".".join(path))


def _line(lines: Mapping[tuple[str, ...], int] | None, path: tuple[str, ...]) -> str:
    """Of the key, or, where it is missing, of the section that lacks it."""
    known = [path[:end] for end in range(len(path), 0, -1) if lines and path[:end] in lines]
    return f"line {lines[known[0]]}: " if lines and known else ""


def _mistake(error: Any, key: str) -> str:
    if error["type"] == "missing":
        return f"key {key!r} is missing{MISSING.get(key, '')}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key} = {error['input']!r}: {message}" if key else message


def _unknown_key(place: Place, key: str, value: Any) -> str:
    full = ".".join([*place.path, key])
    if full in FORMER:
        return f"unknown key {full!r}: {FORMER[full](value)}"
    if place.kind is None:
        return f"unknown key {full!r}"
    for other in place.kinds:
        if other.key and key in other.model.model_fields:
            named = ".".join([*place.path, other.key])
            return f"{full} is for {named} {other.name}, but {other.key} is {place.kind.name}"
    known = sorted(place.kind.model.model_fields)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown key {full!r}: {hint}known here: {', '.join(known)}"


def _follow(parts: list[Any], root: Model) -> Place:
    """Where a location of pydantic's leads: in it, the name of a kind follows the key of a section of several."""
    path: list[str] = []
    kind: Kind | None = Kind(root, "", "")
    kinds: tuple[Kind, ...] = ()
    for part in parts:
        named = next((each for each in kinds if kind is None and each.name == part), None)
        if named is not None:
            kind = named
            continue
        path.append(str(part))
        field = kind.model.model_fields.get(str(part)) if kind is not None else None
        if field is not None:  # otherwise the name of an entry in a mapping, such as networks.mobilenet, or a number
            kinds = tuple(kinds_of(field.annotation))
            kind = kinds[0] if len(kinds) == 1 else None
    return Place(tuple(path), kind, kinds)


def kinds_of(annotation: Any) -> list[Kind]:
    """The models in an annotation, such as those of `dict[str, A]` or of a union with a `Tag` for each."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        literals = {key: get_args(field.annotation) for key, field in fields if get_origin(field.annotation) is Literal}
        key, names = next(((key, names) for key, names in literals.items() if len(names) == 1), ("", ("",)))
        return [Kind(annotation, key, names[0])]
    kinds = [kind for inner in get_args(annotation) for kind in kinds_of(inner)]
    if get_origin(annotation) is Annotated and len(kinds) == 1:
        tag = next((str(each.tag) for each in get_args(annotation)[1:] if isinstance(each, Tag)), kinds[0].name)
        return [kinds[0]._replace(name=tag)]
    return kinds
