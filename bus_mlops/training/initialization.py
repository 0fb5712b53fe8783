"""Draws a network's initial weights anew, each variable from its own seed: a reused network starts fresh.

The seed of a variable is a hash of the cell's seed and the variable's path: neither the order in which
networks were built, nor what was trained before, changes a number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from bus_mlops.errors import NetworkError
from bus_mlops.models.framework import keras

# Where a variable's initializer is kept under another name than the variable's own.
_RENAMED = {
    "kernel": "depthwise_initializer",
    "depthwise_kernel": "depthwise_initializer",
    "pointwise_kernel": "pointwise_initializer",
}


def variable_seed(cell_seed: int, path: str) -> int:
    """A seed of 31 bits for one variable of one cell.

    >>> variable_seed(7, "conv1/kernel") == variable_seed(7, "conv1/kernel")
    True
    """
    digest = hashlib.sha256(f"{cell_seed}/{path}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def reset_weights(model: keras.Model, cell_seed: int, keep: Collection[str] = ()) -> None:
    """Set every weight to a new draw of its own initializer, except the variables whose path is in `keep`.

    A Normalization layer is a constant of the network, set when it was built: it is left alone.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            continue
        for variable in layer.weights:
            if variable.path not in keep:
                initializer = _seeded(_initializer(layer, variable.name), variable_seed(cell_seed, variable.path))
                variable.assign(initializer(variable.shape, dtype=variable.dtype))


def reset_generators(model: keras.Model, cell_seed: int) -> None:
    """Set the random generators of layers such as dropout to a state that follows from cell seed and layer name."""
    for name, state in generators(model).items():
        state.assign([variable_seed(cell_seed, name), 0])


def generators(model: keras.Model) -> dict[str, Any]:
    """The states of the random generators of layers such as dropout: what is a layer's variable, but no weight."""
    found: dict[str, Any] = {}
    for layer in model.layers:
        weights = {id(weight) for weight in layer.weights}
        states = [variable for variable in layer.variables if id(variable) not in weights]
        found |= {f"{layer.name}/generator{number or ''}": state for number, state in enumerate(states)}
    return found


def _initializer(layer: keras.Layer, name: str) -> keras.initializers.Initializer:
    for attribute in (f"{name}_initializer", _RENAMED.get(name, "")):
        found = getattr(layer, attribute, None)
        if found is not None:
            return found
    raise NetworkError(
        f"layer {layer.name!r} ({type(layer).__name__}) has a variable {name!r} without a known initializer: "
        "a program cannot reset it between cells."
    )


def _seeded(initializer: keras.initializers.Initializer, seed: int) -> keras.initializers.Initializer:
    settings = initializer.get_config()
    if "seed" in settings:
        settings["seed"] = seed
    return type(initializer).from_config(settings)
