"""Pretrained weights: read from the files of an application, for the layers of a network's pretrained part."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from bus_mlops.errors import WeightsError
from bus_mlops.models import zoo
from bus_mlops.models.applications import APPLICATIONS, build_application, keras_application
from bus_mlops.models.convnext import take_weights
from bus_mlops.models.framework import keras
from bus_mlops.models.naming import is_counted, with_stable_names
from bus_mlops.models.weight_files import pretrained_weights
from bus_mlops.spec import RunSpec


def pretrained_values(model: keras.Model, spec: RunSpec, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The pretrained value of each variable of a network's backbone, by the variable's path in the network.

    A normalisation that the backbone begins with is a constant of the network and not among them.

    Raises:
        WeightsError: The network has no pretrained part, or not the layers of its backbone; or the file is missing,
            damaged, or of another network.
    """
    backbone = zoo.entry(spec.network).backbone_of(spec.options)
    if not backbone:
        raise WeightsError(
            f"{spec.network} has no pretrained part: there are no ImageNet weights for it. Set "
            f"networks.{spec.network}.weights to random."
        )
    application = load_application(backbone, pretrained_weights(spec.training.weights, backbone, folder))
    _check_layers(model, application, f"{spec.network}, whose backbone is {backbone},")
    return {
        target.path: np.asarray(source)
        for layer in _trained_layers(application)
        for target, source in zip(model.get_layer(layer.name).weights, layer.weights, strict=True)
    }


def load_application(backbone: str, path: Path) -> keras.Model:
    """The Keras application without top and with these weights.

    Raises:
        WeightsError: The file, which it names, does not hold them.
    """
    application = build_application(backbone, keras.Input((224, 224, 3)))
    rebuilt = APPLICATIONS[backbone].rebuilt
    source = keras_application(backbone, keras.Input((224, 224, 3))) if rebuilt else application
    try:
        with warnings.catch_warnings():  # a file of another network warns a hundred times before it fails
            warnings.simplefilter("ignore")
            source.load_weights(path)
        if rebuilt:
            take_weights(application, source)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} is damaged, or does not hold the weights of {backbone} without top: delete or replace "
            f"it. ({' '.join(str(error).split())[:200]})"
        ) from error
    return with_stable_names(application)


def _trained_layers(application: keras.Model) -> list[keras.Layer]:
    """The layers whose weights were learnt; a Normalization's never are (see `applications.py`)."""
    return [
        layer for layer in application.layers if layer.weights and not isinstance(layer, keras.layers.Normalization)
    ]


def _check_layers(model: keras.Model, application: keras.Model, network: str) -> None:
    """Raise WeightsError unless the network has each layer of the application under its name."""
    own = {layer.name: layer for layer in model.layers}
    for layer in _trained_layers(application):
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if layer.name not in own or [tuple(weight.shape) for weight in own[layer.name].weights] != shapes:
            raise WeightsError(
                f"{network} has no layer {layer.name!r} with weights {shapes}: its ImageNet weights cannot be "
                "placed. Build it on bus_mlops.models.applications.build_application."
            )
    counted, of_application = _counted(model), _counted(application)
    for name, count in of_application.items():
        if counted[name] != count:
            raise WeightsError(
                f"{network} has {counted[name]} {name} layers without a name of their own, and its backbone "
                f"{count}: name the others, so that its ImageNet weights find their layers."
            )


def _counted(model: keras.Model) -> Counter[str]:
    return Counter(type(layer).__name__ for layer in model.layers if layer.weights and is_counted(layer))
