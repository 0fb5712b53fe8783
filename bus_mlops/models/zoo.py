"""The registry of networks: what can be built, with which options and sizes; planning reads it without Keras.

One entry a network: in `catalogue.py`, in `published.py` or in a user's file (`extensions.py`). Builders are named
as "module:function" and imported only when a network is built, so that `bus-mlops plan` and the configuration
checks start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bus_mlops.errors import NetworkError
from bus_mlops.models.catalogue import CLASSIFIERS, GENERIC_MULTITASK, LATER_CLASSIFIERS, PROBES
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.models.published import PUBLISHED
from bus_mlops.registries import Registry

if TYPE_CHECKING:
    from bus_mlops.models.framework import keras
    from bus_mlops.spec import RunSpec

NETWORKS: Registry[NetworkEntry] = Registry("network", NetworkError)


def register(network: NetworkEntry) -> None:
    """Add a network to the zoo; a second one of the same name is an error."""
    NETWORKS.add(network.name, network, network.builder.split(":")[0])


for _each in (*CLASSIFIERS, *GENERIC_MULTITASK, *PUBLISHED, *LATER_CLASSIFIERS, *PROBES):
    register(_each)


def entry(name: str) -> NetworkEntry:
    """The network of that name.

    Raises:
        NetworkError: There is none; lists the names.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        raise NetworkError(f"unknown network {name!r}; the zoo has {', '.join(sorted(NETWORKS))}.") from None


def build(spec: RunSpec) -> keras.Model:
    """A fresh network with random weights for one specification.

    Input "image": float32 (B, S, S, 3), RGB 0-255. Output: a dict of probabilities 0-1, "malignancy" (B, 1) if
    its task classifies and "mask" (B, S, S, 1) if it segments. The layers "malignancy_logit" and "mask_logit" hold
    the values before the sigmoid.

    Raises:
        NetworkError: A name, option, input size or start is unknown; a user's network has changed since it was
            planned, or training could not use it.
    """
    from bus_mlops.models.contract import check_model
    from bus_mlops.models.framework import keras
    from bus_mlops.models.naming import with_stable_names

    network = entry(spec.network)
    options = network.complete(spec.options)
    network.check_size(spec.training.input_size)
    network.check_pretrained(spec.training.weights, spec.training.scaling, options)
    if spec.task != network.task:
        raise NetworkError(f"{spec.network} is a network for {network.task} but the run says {spec.task}.")
    if spec.code != network.code:
        raise NetworkError(f"the file of {spec.network} has changed since the run was planned: plan it anew.")
    module, function = network.builder.split(":")
    model: keras.Model = getattr(importlib.import_module(module), function)(
        input_size=spec.training.input_size,
        scaling=spec.training.scaling,
        dropout=spec.training.dropout,
        **options,
    )
    check_model(network, model, spec.training.input_size)
    model = with_stable_names(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = spec.training.batch_norm_momentum
        # Of vectors: ConvNeXt has dense layers of pixels, too.
        dense = isinstance(layer, keras.layers.Dense) and len(layer.input.shape) == 2
        hidden = dense and layer.name != "malignancy_logit"
        if hidden and spec.training.head_initializer is not None:
            layer.kernel_initializer = keras.initializers.get(spec.training.head_initializer)
    return model
