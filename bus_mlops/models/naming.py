"""Names of layers that do not depend on what else the process has built: initial weights are drawn by name."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from bus_mlops.models.framework import keras


def with_stable_names(model: keras.Model) -> keras.Model:
    """The same network, its layers without a name of their own counted from the beginning.

    Keras counts them over the whole process: the same Xception has `conv2d` in a fresh one and `conv2d_4` after
    another. Weights keep their values.

    Returns:
        `model` itself if nothing has to be renamed.
    """
    names = _stable_names(model)
    if all(old == new for old, new in names.items()):
        return model

    def renamed(layer: keras.Layer) -> keras.Layer:
        # An operation of keras.ops is no layer: it has no weights, and its name does not matter.
        config = layer.get_config() | {"name": names.get(layer.name, layer.name)}
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=renamed)
    for old, new in zip(model.layers, copy.layers, strict=True):
        values: dict[str, Any] = {}
        old.save_own_variables(values)
        new.load_own_variables({key: keras.ops.convert_to_numpy(value) for key, value in values.items()})
    return copy


def is_counted(layer: keras.Layer) -> bool:
    """Whether the layer's name is one that Keras gives by counting: its class in snake case, and a number."""
    return re.fullmatch(rf"{_class_name(layer)}(_\d+)?", layer.name) is not None


def _stable_names(model: keras.Model) -> dict[str, str]:
    """The new name of each layer by its old one."""
    counts: Counter[str] = Counter()
    names = {}
    for layer in model.layers:
        name = layer.name
        if is_counted(layer) and not isinstance(layer, keras.layers.InputLayer):
            base = _class_name(layer)
            name = f"{base}_{counts[base]}" if counts[base] else base
            counts[base] += 1
        names[layer.name] = name
    return names


def _class_name(layer: keras.Layer) -> str:
    """The layer's class as Keras writes it in names: Conv2D is conv2d, ReLU is re_lu."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
