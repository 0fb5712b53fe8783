"""What a search may change: paths into the training and the options of a network; from parameters to a spec.

Every path is resolved against the schema of `training` and the options that the network is registered with, and every
end of a range and every choice is tried on the spec that the search starts from: a mistake is told before anything is
trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from bus_mlops.config.searches import Choices, Parameters, Range, Value
from bus_mlops.config.training import Training
from bus_mlops.errors import ConfigError, NetworkError
from bus_mlops.experiments.settings import NEVER, all_settings, settings_of, switched
from bus_mlops.models.zoo import entry
from bus_mlops.spec import RunSpec

# Images of each size are assembled beforehand.
LISTED = ("input_size",)
MOST_OF_A_GRID = 100_000


class Space:
    """The paths of a search with what each may be, on the spec that the search starts from."""

    def __init__(self, space: Mapping[str, Range | Choices], start: RunSpec, where: str = "space") -> None:
        """As `of`."""
        self._where = where
        self._spec = start
        self._settings = settings_of(start)
        ordered = list(_parents_first(space))
        self.dimensions: tuple[tuple[str, Range | Choices], ...] = tuple(
            (path, self._typed(path, space[path])) for path in ordered
        )
        self._by_path = dict(self.dimensions)
        for path, dimension in self.dimensions:
            self._try(path, dimension)

    @classmethod
    def of(cls, space: Mapping[str, Range | Choices], start: RunSpec, where: str = "space") -> Space:
        """The space of a search.

        Args:
            space: What `searches.NAME.space` holds.
            start: What the search starts from.
            where: What errors call the space, such as `searches.head.space`.

        Raises:
            ConfigError: A path leads nowhere or has no effect, or a value cannot be; says what there is.
        """
        return cls(space, start, where)

    def spec(self, parameters: Parameters) -> RunSpec:
        """The start with these values; of a path that is left out, or does not apply, the start's stays.

        Another kind of a section, such as of the loss, begins with that kind's defaults, but for what both have.

        Raises:
            ConfigError: A path is not of the space, or a value cannot be.
        """
        for path in parameters:
            if path not in self._by_path:
                raise ConfigError(f"{self._where}.{path}: is not a path of this space: {', '.join(self._by_path)}")
        try:
            return self._changed(parameters)
        except NetworkError as error:
            raise ConfigError(f"{self._where}: {error}") from None

    def _changed(self, parameters: Parameters) -> RunSpec:
        applied = {path: self._value(path, parameters[path]) for path in self.active(parameters) if path in parameters}
        values = self._spec.training.model_dump()
        options = dict(self._spec.options)
        # Kinds first: the other values of a section are those of its kind.
        for path in sorted(applied, key=lambda path: path != self._settings[path].kind_path):
            setting, name = self._settings[path], path.rpartition(".")[2]
            if path == setting.kind_path:
                values[setting.section] = switched(setting, values[setting.section], str(applied[path]))
            elif setting.section == "options":
                options[name] = applied[path]
            elif setting.section:
                values[setting.section][name] = applied[path]
            else:
                values[path] = applied[path]
        network = entry(self._spec.network)
        try:
            training = Training.model_validate(values)
            network.check_size(training.input_size)
            options = network.resolve(options)
            network.check_pretrained(training.weights, training.scaling, options)
        except ValidationError as error:
            first = error.errors()[0]
            path = _in_file(first["loc"], applied)
            raise ConfigError(f"{self._where}.{path} = {first['input']!r}: {first['msg']}") from None
        return self._spec.model_copy(update={"training": training, "options": options})

    def start(self) -> dict[str, Value]:
        """The values that the start has itself, also outside the space; those of other kinds of a section it lacks."""
        return self.read(self._spec)

    def read(self, spec: RunSpec) -> dict[str, Value]:
        """The values that a spec has at the paths that apply to it."""
        found: dict[str, Value] = {}
        for path, dimension in self.dimensions:
            value = self._read(spec, path)
            if value is not None and _holds(dimension, found):
                found[path] = value
        return found

    def active(self, parameters: Parameters) -> tuple[str, ...]:
        """The paths whose `when` holds; a path that is left out has the start's value."""
        known: dict[str, Value | None] = {}
        for path, dimension in self.dimensions:
            if _holds(dimension, known):
                given = path in parameters
                known[path] = self._value(path, parameters[path]) if given else self._read(self._spec, path)
        return tuple(known)

    def proposal(self, parameters: Parameters) -> dict[str, Value]:
        """The parameters of a trial: of all paths that apply, as their fields' types, numbers on a range's steps.

        Raises:
            ConfigError: One is missing, or lies outside the space.
        """
        found = {}
        for path in self.active(parameters):
            if path not in parameters:
                raise ConfigError(f"{self._where}.{path}: applies, but has no value")
            found[path] = self._inside(path, self._value(path, parameters[path]))
        self.spec(found)
        return found

    def grid(self) -> list[dict[str, Value]]:
        """Every combination, the last path fastest; of paths that do not apply there are none.

        Raises:
            ConfigError: A range has no step, or there are too many.
        """
        grid: list[dict[str, Value]] = [{}]
        for path, dimension in self.dimensions:
            values = self._all(path, dimension)
            grid = [
                longer
                for shorter in grid
                for longer in (
                    [{**shorter, path: value} for value in values] if _holds(dimension, shorter) else [shorter]
                )
            ]
            if len(grid) > MOST_OF_A_GRID:
                raise ConfigError(
                    f"{self._where}: the grid has more than {MOST_OF_A_GRID:,} points: widen a step, or take another "
                    "sampler"
                )
        return grid

    def sizes(self) -> set[int]:
        """The image sizes in pixels that the space needs, with the start's."""
        listed = self._by_path.get("input_size")
        return {self._spec.training.input_size, *map(int, listed.choices if isinstance(listed, Choices) else ())}

    def _typed(self, path: str, dimension: Range | Choices) -> Range | Choices:
        """The dimension with its values as the field's type."""
        setting = self._settings.get(path)
        if setting is None:
            raise ConfigError(f"{self._where}.{path}: {self._unknown(path)}")
        when = {}
        for other, value in dimension.when.items():
            if other not in self._settings:
                raise ConfigError(f"{self._where}.{other}: {self._unknown(other)}")
            when[other] = self._value(other, value)
        if isinstance(dimension, Choices):
            choices = tuple(self._value(path, value) for value in dimension.choices)
            return dimension.model_copy(update={"choices": choices, "when": when})
        if setting.values or path in LISTED:
            there = f", such as [{', '.join(map(str, setting.values))}]" if setting.values else ""
            raise ConfigError(f"{self._where}.{path}: is a range, and needs choices: list the values{there}")
        low, high = self._value(path, dimension.low), self._value(path, dimension.high)
        step = dimension.step
        if setting.type is int and not dimension.log:
            step = 1 if step is None else step
        if step is not None:
            step = self._value(path, step)
        return dimension.model_copy(update={"low": low, "high": high, "step": step, "when": when})

    def _unknown(self, path: str) -> str:
        there = ", ".join(sorted(self._settings))
        name = self._spec.network
        if path in NEVER:
            return f"cannot be searched, since {NEVER[path]}"
        if path in all_settings(self._spec):
            return f"has no effect on {name}. There are: {there}"
        return f"leads to nothing that {name} can be trained with. There are: {there}"

    def _value(self, path: str, value: Value) -> Any:
        """The value as the type of its field."""
        setting = self._settings[path]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if setting.values:
            for each in setting.values:
                if each == value and isinstance(each, bool) == isinstance(value, bool):
                    return each
            problem = f"must be one of {', '.join(map(str, setting.values))}"
        elif not number or not math.isfinite(float(value)):
            problem = "must be a number"
        elif setting.type is float:
            return float(value)
        elif float(value).is_integer():
            return int(value)
        else:
            problem = "must be a whole number"
        raise ConfigError(f"{self._where}.{path} = {value!r}: {problem}")

    def _inside(self, path: str, value: Any) -> Any:
        """The value, on a step of its range."""
        dimension = self._by_path[path]
        if isinstance(dimension, Choices):
            if value in dimension.choices:
                return value
            raise ConfigError(
                f"{self._where}.{path} = {value!r}: is not one of its choices: {', '.join(map(str, dimension.choices))}"
            )
        tolerance = 1e-9 * max(abs(dimension.low), abs(dimension.high))
        if not dimension.low - tolerance <= value <= dimension.high + tolerance:
            raise ConfigError(f"{self._where}.{path} = {value!r}: lies outside {dimension.low:g} to {dimension.high:g}")
        if dimension.step is None:
            return min(max(value, dimension.low), dimension.high)
        steps = (value - dimension.low) / dimension.step
        if abs(steps - round(steps)) > 1e-6:
            raise ConfigError(
                f"{self._where}.{path} = {value!r}: is none of the steps of {dimension.step:g} from {dimension.low:g}"
            )
        return _on_step(dimension, round(steps))

    def _all(self, path: str, dimension: Range | Choices) -> list[Value]:
        if isinstance(dimension, Choices):
            return list(dimension.choices)
        if dimension.step is None:
            raise ConfigError(f"{self._where}.{path}: a grid needs a step, or a list of values")
        count = round((dimension.high - dimension.low) / dimension.step)
        if count > MOST_OF_A_GRID:
            raise ConfigError(f"{self._where}.{path}: has {count + 1:,} steps, too many for a grid: widen the step")
        return [_on_step(dimension, number) for number in range(count + 1)]

    def _read(self, spec: RunSpec, path: str) -> Value | None:
        setting, name = self._settings[path], path.rpartition(".")[2]
        if setting.section == "options":
            return entry(spec.network).complete(spec.options).get(name)
        return getattr(getattr(spec.training, setting.section) if setting.section else spec.training, name, None)

    def _try(self, path: str, dimension: Range | Choices) -> None:
        """Every choice, or both ends, wherever the path applies."""
        values = dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
        made = set()
        for context in self._contexts(path):
            for value in values:
                try:
                    made.add(str(self._changed({**context, path: value}).canonical()))
                except NetworkError as error:
                    raise ConfigError(f"{self._where}.{path} = {value!r}: {error}") from None
        if len(values) > 1 and len(made) == 1:
            raise ConfigError(
                f"{self._where}.{path}: has no effect: all its values are the same training of {self._spec.network}"
            )

    def _contexts(self, path: str) -> list[dict[str, Value]]:
        """Values of other paths with which this one applies: one for each kind that its section may be."""
        context = self._needed(path)
        setting = self._settings[path]
        if not setting.key or path == setting.kind_path:
            return [context]
        kind_path = setting.kind_path
        own = str(getattr(getattr(self._spec.training, setting.section), setting.key))
        listed = self._by_path.get(kind_path)
        if kind_path in context:
            reached = [context[kind_path]]
        elif isinstance(listed, Choices):
            reached = [*listed.choices, *([own] if listed.when and own not in listed.choices else [])]
        else:
            reached = [own]
        for kind in reached:
            if kind not in setting.kinds:
                known = " or ".join(setting.kinds)
                raise ConfigError(
                    f"{self._where}.{path}: is for {kind_path} {known}, but {kind_path} "
                    + (
                        f"may be {kind}: add `when: {{{kind_path}: {setting.kinds[0]}}}`"
                        if kind_path in self._by_path
                        else f"is {kind}: add `{kind_path}: [{setting.kinds[0]}]` to the space"
                    )
                )
        if kind_path not in self._by_path:
            return [context]
        return [{**self._needed(kind_path), **context, kind_path: kind} for kind in reached]

    def _needed(self, path: str) -> dict[str, Value]:
        """The values on which a path depends, and those on which they do."""
        found: dict[str, Value] = {}
        for other, value in self._by_path[path].when.items():
            for name, needed in {**self._needed(other), other: value}.items():
                if found.setdefault(name, needed) != needed:
                    raise ConfigError(
                        f"{self._where}.{path}.when: asks for {name} {found[name]} and {needed}: never both"
                    )
        return found


def _parents_first(space: Mapping[str, Range | Choices]) -> Iterator[str]:
    given: set[str] = set()
    while len(given) < len(space):
        for path, dimension in space.items():
            if path not in given and given >= dimension.when.keys():
                given.add(path)
                yield path


def _holds(dimension: Range | Choices, parameters: Mapping[str, Value | None]) -> bool:
    return all(other in parameters and parameters[other] == value for other, value in dimension.when.items())


def _on_step(dimension: Range, number: int) -> Value:
    """Without the digits that adding steps leaves: 0.35, not 0.35000000000000003."""
    assert dimension.step is not None  # noqa: S101 - only ranges with one have steps
    value = dimension.low + number * dimension.step
    return value if isinstance(value, int) else float(f"{value:.12g}")


def _in_file(place: tuple[int | str, ...], applied: Mapping[str, Value]) -> str:
    """The path of pydantic's location, in which the kind of a section stands too."""
    names = [str(part) for part in place]
    return next((path for path in applied if path.split(".") in (names, [names[0], *names[2:]])), ".".join(names))
