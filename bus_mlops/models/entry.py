"""What the zoo knows of a network without building it: name, task, sizes, options, source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bus_mlops.errors import NetworkError
from bus_mlops.models.applications import APPLICATIONS, of_width
from bus_mlops.spec import Task

Option = bool | int | float | str
Options = Mapping[str, Option]
# What the features of a frozen encoder and their logistic regression depend on; nothing else of `training` acts there.
OF_PROBES = ("input_size", "weights", "scaling", "validation")


@dataclass(frozen=True)
class OptionRule:
    """The default of a network option and what it may be: one of `choices`, or a number in `bounds`.

    Attributes:
        default: Whole numbers stay whole where it is one.
        choices: What it may be.
        bounds: Of a number, both included.
        named: It is in the network's title even if it has its default.
        later: The network has had it only since runs of it were recorded: specs leave it out while it has its
            default, so that what is recorded stays found.
        follows: The default, where it follows from the options that stand before this one.
        beside: The option before this one, and its value, without which only the default is allowed.
    """

    default: Option
    choices: tuple[Option, ...] = ()
    bounds: tuple[float, float] | None = None
    named: bool = False
    later: bool = False
    follows: Callable[[Options], Option] | None = None
    beside: tuple[str, Option] | None = None

    @property
    def in_words(self) -> str:
        """The default first, and what else it may be.

        >>> OptionRule("a", choices=("b", "a")).in_words, OptionRule(1.0, bounds=(0.5, 2)).in_words
        ('a | b', '1 (0.5-2)')
        """
        if self.bounds is None:
            choices = (self.default, *(c for c in self.choices if c != self.default))
            return " | ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in choices)
        low, high = self.bounds
        return f"{self.default:g} ({low:g}-{high:g})"

    def default_with(self, options: Options) -> Option:
        """The default beside the options that stand before this one."""
        return self.default if self.follows is None else self.follows(options)

    def check(self, where: str, value: Option) -> Option:
        """The value, as the default's type.

        Raises:
            NetworkError: It is not allowed; says what is.
        """
        if self.bounds is not None:
            low, high = self.bounds
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            whole = isinstance(self.default, int)
            if not number or not low <= float(value) <= high or (whole and float(value) % 1):
                kind = "whole number" if whole else "number"
                raise NetworkError(f"{where} must be a {kind} between {low:g} and {high:g} but got {value!r}.")
            return type(self.default)(value)
        if value not in self.choices:
            allowed = ", ".join(str(choice) for choice in self.choices)
            raise NetworkError(f"{where} must be one of {allowed} but got {value!r}.")
        return value


@dataclass(frozen=True)
class NetworkEntry:
    """One network of the zoo.

    Attributes:
        name: Its name in params.yaml.
        label: Its name in tables.
        published: Its name in the paper's tables if that differs.
        task: What it answers.
        builder: `module:function`, imported when it is built.
        options: What else its layers may depend on.
        source: Where its layers come from.
        input_size: The paper's, in pixels.
        multiple: Input sizes must be a multiple of it, in pixels.
        minimum: The smallest input size, in pixels.
        backbone: The pretrained part: the name of a Keras application, of the option that holds that name, or empty
            for a network that always starts from random weights.
        width_option: The option that says which share of the filters the pretrained part has, where it has one.
        probe: Nothing of it is trained but its last layer, by logistic regression: see `training/linear_probe.py`.
        since_the_paper: Its rows stand in the table of that name, and never beside the paper's columns.
        parameters: Of all layers, measured at `input_size` with the default options; 0 if nobody has.
        gmac: 10^9 multiply-accumulates an image, measured likewise.
        scaling: The one of the released code.
        code: The sha256 of the file of a network of the user's own, empty for the platform's.
    """

    name: str
    label: str
    task: Task
    input_size: int
    builder: str
    backbone: str
    source: str
    multiple: int = 1
    minimum: int = 32
    options: Mapping[str, OptionRule] = field(default_factory=dict)
    published: str = ""
    parameters: int = 0
    gmac: float = 0.0
    scaling: str = "raw255"
    code: str = ""
    width_option: str = ""
    probe: bool = False
    since_the_paper: bool = False

    def resolve(self, options: Options) -> dict[str, Option]:
        """What a spec says of its network: all options with defaults filled in, but for later ones at their default.

        Raises:
            NetworkError: A name is unknown or a value is not allowed.
        """
        values = self.complete(options)
        return {
            name: value for name, value in values.items() if not self.options[name].later or self._set(name, values)
        }

    def complete(self, options: Options) -> dict[str, Option]:
        """All options with defaults filled in: what the builder is called with.

        Raises:
            NetworkError: A name is unknown or a value is not allowed.
        """
        for name in options:
            if name not in self.options:
                known = ", ".join(sorted(self.options)) or "none"
                raise NetworkError(f"networks.{self.name}.options.{name} is unknown; known options: {known}.")
        values = dict[str, Option]()
        for name, rule in self.options.items():
            value = options.get(name, rule.default_with(values))
            where = f"networks.{self.name}.options.{name}"
            values[name] = rule.check(where, value)
            if rule.beside and self._set(name, values) and values[rule.beside[0]] != rule.beside[1]:
                needed = f"{rule.beside[0]} {rule.beside[1]}"
                raise NetworkError(f"{where} has an effect only with {needed}, but it is {values[rule.beside[0]]}.")
        return values

    def _set(self, name: str, values: Options) -> bool:
        """Whether an option has another value than its default."""
        return values[name] != self.options[name].default_with(values)

    def check_size(self, size: int) -> None:
        """Raise NetworkError if the network cannot take images of this side (pixels)."""
        if size < self.minimum or size % self.multiple:
            rule = f"a multiple of {self.multiple}, " if self.multiple > 1 else ""
            raise NetworkError(
                f"input_size of {self.name} must be {rule}{self.minimum} or more but got {size}. "
                f"The paper uses {self.input_size}."
            )

    def check_pretrained(self, weights: str, scaling: str, options: Options | None = None) -> None:
        """Raise NetworkError if weights or a normalisation are asked for that the network, or these weights, lack."""
        pretrained = ("imagenet", "radimagenet")
        for name, value in (("weights", weights), ("scaling", scaling)):
            if value in pretrained and not self.backbone:
                raise NetworkError(
                    f"{name} of {self.name} cannot be {value}, since no part of it is pretrained. Set "
                    f"networks.{self.name}.weights to random, and scaling to unit or raw255."
                )
        if weights == "radimagenet":
            backbone = self.backbone_of(options or {})
            having = [name for name, found in APPLICATIONS.items() if found.radimagenet]
            if backbone not in having:
                raise NetworkError(
                    f"there are no RadImageNet weights of {backbone}, which networks.{self.name}.weights asks for; "
                    f"only of {', '.join(having)}."
                )
        if weights in pretrained and scaling in pretrained and weights != scaling:
            raise NetworkError(
                f"networks.{self.name}: weights {weights} were not made with scaling {scaling}. Set "
                f"networks.{self.name}.scaling to {weights}, unit or raw255."
            )

    def title(self, options: Options) -> str:
        """The name in tables, with options that differ from the default, or are always named, spelled out.

        >>> from bus_mlops.models.zoo import entry
        >>> entry("mt_estan").title({"width": 0.25, "encoder": "mobilenet"})
        'MT-ESTAN (mobilenet, width 0.25)'
        """
        values = self.complete(options)
        changed = [
            value if isinstance(value, str) else f"{name} {value:g}"
            for name, value in values.items()
            if self.options[name].named or self._set(name, values)
        ]
        return f"{self.label} ({', '.join(changed)})" if changed else self.label

    def backbone_of(self, options: Options) -> str:
        """The Keras application whose ImageNet weights fit, such as mobilenet, mobilenet_0_25 or resnet50."""
        values = self.complete(options)
        alpha = values.get(self.width_option, 1.0)
        return of_width(str(values.get(self.backbone, self.backbone)), float(alpha))
