"""The registry of networks: what can be built, with which options and sizes; planning reads it without Keras.

One `register(...)` a network. Builders are named as "module:function" and imported only when a network is
built, so that `bus-mlops plan` and the configuration checks start at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bus_mlops.errors import NetworkError

if TYPE_CHECKING:
    import keras

    from bus_mlops.experiments.spec import RunSpec

Option = bool | int | float | str
Options = Mapping[str, Option]


@dataclass(frozen=True)
class OptionRule:
    """The default of a network option and what it may be: one of `choices`, or a number in `bounds`."""

    default: Option
    choices: tuple[Option, ...] = ()
    bounds: tuple[float, float] | None = None

    def check(self, where: str, value: Option) -> Option:
        """The value, as the default's type; raises NetworkError naming what is allowed."""
        if self.bounds is not None:
            low, high = self.bounds
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= float(value) <= high:
                raise NetworkError(f"{where} must be a number between {low:g} and {high:g} but got {value!r}.")
            return type(self.default)(value)
        if value not in self.choices:
            allowed = ", ".join(str(choice) for choice in self.choices)
            raise NetworkError(f"{where} must be one of {allowed} but got {value!r}.")
        return value


@dataclass(frozen=True)
class NetworkEntry:
    """One network of the zoo.

    `label` is its name in tables, `source` says where its layers come from, `input_size` is the paper's,
    `multiple` and `minimum` are the input sizes it takes (pixels). `backbone` is the pretrained part: the
    name of a Keras application, or of the option that holds that name.
    """

    name: str
    label: str
    multitask: bool
    input_size: int
    builder: str
    backbone: str
    source: str
    multiple: int = 1
    minimum: int = 32
    options: Mapping[str, OptionRule] = field(default_factory=dict)

    def resolve(self, options: Options) -> dict[str, Option]:
        """All options with defaults filled in; raises NetworkError for an unknown name or bad value."""
        for name in options:
            if name not in self.options:
                known = ", ".join(sorted(self.options)) or "none"
                raise NetworkError(f"networks.{self.name}.options.{name} is unknown; known options: {known}.")
        return {
            name: rule.check(f"networks.{self.name}.options.{name}", options.get(name, rule.default))
            for name, rule in self.options.items()
        }

    def check_size(self, size: int) -> None:
        """Raise NetworkError if the network cannot take images of this side (pixels)."""
        if size < self.minimum or size % self.multiple:
            rule = f"a multiple of {self.multiple}, " if self.multiple > 1 else ""
            raise NetworkError(
                f"input_size of {self.name} must be {rule}{self.minimum} or more but got {size}. "
                f"The paper uses {self.input_size}."
            )

    def title(self, options: Options) -> str:
        """The name in tables, with options that differ from the default spelled out.

        >>> entry("mt_estan").title({"width": 0.25, "encoder": "mobilenet"})
        'MT-ESTAN (mobilenet, width 0.25)'
        """
        changed = [
            value if isinstance(value, str) else f"{name} {value:g}"
            for name, value in self.resolve(options).items()
            if value != self.options[name].default
        ]
        return f"{self.label} ({', '.join(changed)})" if changed else self.label

    def backbone_of(self, options: Options) -> str:
        """The Keras application whose ImageNet weights fit: mobilenet, resnet50 or densenet121."""
        return str(self.resolve(options).get(self.backbone, self.backbone))


NETWORKS: dict[str, NetworkEntry] = {}


def register(network: NetworkEntry) -> None:
    """Add a network to the zoo; a second one of the same name is an error."""
    if network.name in NETWORKS:
        raise NetworkError(f"network {network.name!r} is registered twice.")
    NETWORKS[network.name] = network


register(
    NetworkEntry(
        name="mobilenet",
        label="MobileNet",
        multitask=False,
        input_size=224,
        builder="bus_mlops.models.classifiers:mobilenet",
        backbone="mobilenet",
        source="paper, section 4: MobileNet without top, global average pool, 512, 64, 1",
    )
)
register(
    NetworkEntry(
        name="mt_estan",
        label="MT-ESTAN",
        multitask=True,
        input_size=224,
        builder="bus_mlops.models.mt_estan:mt_estan",
        backbone="encoder",
        source="the paper and its released code, layer by layer; encoders other than resnet50 are ours",
        multiple=32,
        minimum=64,
        options={
            "encoder": OptionRule("resnet50", choices=("resnet50", "mobilenet", "densenet121")),
            "width": OptionRule(1.0, bounds=(0.0625, 2.0)),
        },
    )
)


def entry(name: str) -> NetworkEntry:
    """The network of that name; raises NetworkError that lists the names."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise NetworkError(f"unknown network {name!r}; the zoo has {', '.join(sorted(NETWORKS))}.") from None


def build(spec: RunSpec) -> keras.Model:
    """A fresh network with random weights for one specification.

    Input "image": float32 (B, S, S, 3), RGB 0-255. Output: a dict with "malignancy" (B, 1), probability 0-1,
    and for multitask networks "mask" (B, S, S, 1), probability 0-1. The layers "malignancy_logit" and
    "mask_logit" hold the values before the sigmoid. Raises NetworkError for an unknown name, option, or input
    size.
    """
    import keras

    network = entry(spec.network)
    options = network.resolve(spec.options)
    network.check_size(spec.training.input_size)
    if spec.multitask != network.multitask:
        kind = "multitask" if network.multitask else "single-task"
        raise NetworkError(f"{spec.network} is a {kind} network but the run says multitask={spec.multitask}.")
    module, function = network.builder.split(":")
    model: keras.Model = getattr(importlib.import_module(module), function)(
        input_size=spec.training.input_size,
        scaling=spec.training.scaling,
        dropout=spec.training.dropout,
        **options,
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = spec.training.batch_norm_momentum
    return model
