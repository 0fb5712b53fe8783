"""Reading `params.yaml` so that every reader of YAML gets the same values, and a mistake is told with its line.

DVC reads the file as YAML 1.2, most of Python as YAML 1.1, and people as neither: `no`, `010`, `20:21` and `1_000`
are different values to each of them. What they agree on is taken; the rest is refused, with what to write instead.
"""

from __future__ import annotations

import copy
import math
import re
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from bus_mlops.errors import ConfigError

MOST_BYTES = 2**18
MOST_LEVELS = 32
# With what references stand for written out.
MOST_VALUES = 50_000
# Longer ones are read as another number by whoever takes them for a float.
MOST_DIGITS = 15

_CONSTANTS = {"": None, "~": None, **dict.fromkeys(("null", "Null", "NULL"))}
_CONSTANTS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+][0-9]+)?|[0-9]+[eE][-+]?[0-9]+)")
# Numbers to YAML 1.2 that are none, or others, to YAML 1.1.
_NUMBER_TO_SOME = re.compile(
    r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9_]+([eE][-+]?[0-9]+)?|0o[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)"
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_YES_OR_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}
# Ends of lines to YAML 1.1 alone.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


class Parameters(NamedTuple):
    """The content of a parameter file, and the line (1-based) of each key and item by the keys that lead to it."""

    values: dict[str, Any]
    lines: dict[tuple[str, ...], int]


def read_parameters(path: Path) -> Parameters:
    """Read a parameter file.

    Raises:
        ConfigError: Names the file and the line, what stands there, and what to write instead.
        FileNotFoundError: There is no such file.
    """
    return parse_parameters(_text(path), str(path))


def parse_parameters(text: str, where: str) -> Parameters:
    """The content of a parameter file as text; `where` is what errors call it.

    Raises:
        ConfigError: As `read_parameters`.
    """
    if found := _LINE_ENDS.search(text):
        number = text.count("\n", 0, found.start()) + 1
        raise ConfigError(
            f"{where}, line {number}: the character U+{ord(found[0]):04X} ends a line for some readers only: remove it."
        )
    try:
        return _Reader(text.removeprefix("\ufeff"), where).read()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{where}, line {line}: is not valid YAML: the character U+{error.character:04X} stands there, which no "
            "text has: remove it, or save the file anew as text in UTF-8."
        ) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{where}{_place(error)}: is not valid YAML: {_reason(error)}. Mend that line.") from None


def _text(path: Path) -> str:
    try:
        kind = path.stat()
        if not stat.S_ISREG(kind.st_mode):
            raise ConfigError(f"{path} is {_kind(kind.st_mode)}, not a file: put the parameters into a file.")
        if kind.st_size > MOST_BYTES:
            raise ConfigError(f"{path} has {kind.st_size:,} bytes, and no parameter file has more than {MOST_BYTES:,}.")
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: cannot be read: the byte 0x{content[error.start]:02X} is not UTF-8. Save the "
            "file as text in UTF-8."
        ) from None


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f", line {mark.line + 1}" if mark else ""


def _reason(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in str(error.problem):
        return "a tab stands there: indent and separate with spaces"
    started = f" {error.context} that begins in line {error.context_mark.line + 1}," if error.context_mark else ""
    return f"{error.problem},{started}".strip(",")


class _Anchored(NamedTuple):
    """A value that others may refer to, how many values are in it, and how many levels it has."""

    value: Any
    values: int
    levels: int


class _Reader:
    """Builds values from the events of PyYAML's parser, which come one by one however deep the file is."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._lines: dict[tuple[str, ...], int] = {}
        self._anchored: dict[str, _Anchored] = {}
        self._values = 0

    def read(self) -> Parameters:
        next(self._events)  # of the stream
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise ConfigError(f"{self._where} must hold a mapping of parameters but holds nothing.")
        if start.version or start.tags:
            raise self._error(start, "a directive (%): remove it, for the file is read as every version of YAML does")
        first = next(self._events)
        values = self._value(first, ())
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._error(following, "a second document (---) begins: keep one, in a file of its own")
        if not isinstance(values, dict):
            raise ConfigError(f"{self._where} must hold a mapping of parameters but holds {type(values).__name__}.")
        return Parameters(values, self._lines)

    def _value(self, event: Any, path: tuple[str, ...]) -> Any:
        self._lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._referred(event, path)
        if event.tag is not None:
            raise self._error(event, f"the tag {event.tag!r}: write the value without one")
        before = self._values
        self._count(event, 1)
        value = self._written(event, path)
        if event.anchor is not None:
            self._anchored[event.anchor] = _Anchored(value, self._values - before, _levels(value))
        return value

    def _referred(self, event: Any, path: tuple[str, ...]) -> Any:
        """A copy of the value that a reference (`*name`) stands for."""
        found = self._anchored.get(event.anchor)
        if found is None:
            raise self._error(event, f"*{event.anchor} refers to no &{event.anchor} that is complete before it")
        if len(path) + found.levels > MOST_LEVELS:
            raise self._too_deep(event)
        self._count(event, found.values)
        return copy.deepcopy(found.value)

    def _count(self, event: Any, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise self._error(event, f"more than {MOST_VALUES:,} values, and no parameter file has so many")

    def _too_deep(self, event: Any) -> ConfigError:
        return self._error(event, f"more than {MOST_LEVELS} levels, one in the other, and no parameter lies so deep")

    def _written(self, event: Any, path: tuple[str, ...]) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, ".".join(path))
        if len(path) >= MOST_LEVELS:
            raise self._too_deep(event)
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _sequence(self, path: tuple[str, ...]) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, str(len(items)))))
        return items

    def _mapping(self, path: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            full = (*path, key)
            if key in values:
                raise self._error(event, f"key {'.'.join(full)!r} stands in line {self._lines[full]} already: keep one")
            values[key] = self._value(next(self._events), full)
        return values

    def _key(self, event: Any, path: tuple[str, ...]) -> str:
        inside = f" in {'.'.join(path)}" if path else ""
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(
                event, f"a key{inside} that is a list, a mapping or a reference: write the name of a parameter"
            )
        if event.implicit[0] and event.value == "<<":
            raise self._error(event, "<< merges another place of the file: write the values out instead")
        key = self._value(event, (*path, event.value))
        if not isinstance(key, str):
            raise self._error(event, f"the key {event.value!r}{inside} is no word but {key!r}: write it in quotes")
        return key

    def _scalar(self, event: Any, name: str) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # in quotes, or a block of text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        what = f"{name} = {text[:100]}"
        if _WHOLE.fullmatch(text):
            if len(text.lstrip("+-")) > MOST_DIGITS:
                raise self._error(event, f"{what} is too long: a whole number may have {MOST_DIGITS} digits")
            return int(text)
        if _DECIMAL.fullmatch(text):
            if not math.isfinite(value := float(text)):
                raise self._error(event, f"{what} is larger than any number: write a smaller one")
            return value
        if text.lower() in _YES_OR_NO:
            raise self._error(
                event,
                f"{what} is a truth value to some readers of YAML and a word to others: write "
                f"{_YES_OR_NO[text.lower()]}, or '{text}' in quotes if the word is meant",
            )
        if _NOT_FINITE.fullmatch(text):
            raise self._error(event, f"{what} is not a number that anything can be computed with: write a finite one")
        if _NUMBER_TO_SOME.fullmatch(text) or _of_yaml_1_1(text) != _TEXT:
            raise self._error(
                event,
                f"{what} is not the same to all readers of YAML (a number, a time, a date or a word): write a plain "
                f"decimal number, or '{text[:100]}' in quotes if the text is meant",
            )
        return text

    def _error(self, event: Any, what: str) -> ConfigError:
        return ConfigError(f"{self._where}, line {event.start_mark.line + 1}: {what}.")


def _levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_levels, inner), default=0)


_TEXT = "tag:yaml.org,2002:str"
_of_yaml_1_1 = partial(cast("Callable[..., str]", yaml.SafeLoader("").resolve), yaml.ScalarNode, implicit=(True, False))
