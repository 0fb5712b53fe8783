"""The registry of networks: what can be built, with which options and sizes; planning reads it without Keras.

One `register(...)` a network. Builders are named as "module:function" and imported only when a network is
built, so that `bus-mlops plan` and the configuration checks start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bus_mlops.errors import NetworkError
from bus_mlops.models.entry import NetworkEntry, OptionRule, Task

if TYPE_CHECKING:
    import keras

    from bus_mlops.experiments.spec import RunSpec

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
        task=Task.CLASSIFICATION,
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
        task=Task.MULTITASK,
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
    if spec.task != network.task:
        raise NetworkError(f"{spec.network} is a network for {network.task} but the run says {spec.task}.")
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
