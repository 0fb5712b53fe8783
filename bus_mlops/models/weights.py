"""ImageNet weights: found in a given folder, else in Keras's cache, else downloaded through Keras."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.error
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np

from bus_mlops.errors import WeightsError
from bus_mlops.models import zoo
from bus_mlops.models.applications import APPLICATIONS, build_application
from bus_mlops.models.framework import keras
from bus_mlops.models.naming import is_counted, with_stable_names
from bus_mlops.spec import RunSpec

_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/"
_PROBE_SECONDS = 10.0
_STALL_SECONDS = 30.0


def imagenet_weights(backbone: str, folder: Path | None = None) -> Path:
    """The file with the ImageNet weights (no top) of an application such as mobilenet.

    Looks in `folder`, then in Keras's cache (`KERAS_HOME` or `~/.keras`, there in `models`), then downloads
    into that cache.

    Raises:
        WeightsError: There is none, found without a network within about ten seconds; says which file to put where.
    """
    if backbone not in APPLICATIONS:
        raise WeightsError(f"no ImageNet weights are known for {backbone!r}; only for {', '.join(APPLICATIONS)}.")
    places = [place for place in (folder, _cache()) if place is not None]
    found = _find(backbone, places)
    if found is not None:
        return found
    try:
        return _download(backbone)
    except Exception as error:  # Keras raises bare Exception when a download fails
        looked = " and ".join(f"{place}{'' if place.is_dir() else ' (no such folder)'}" for place in places)
        raise WeightsError(
            f"ImageNet weights of {backbone} are not in {looked}, and downloading them failed: {error}. "
            f"Put {' or '.join(APPLICATIONS[backbone].files)} into {places[0]}"
            f"{'' if folder else ' (or name a folder as weights_folder)'}, or train with weights: random."
        ) from error


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
    application = load_application(backbone, imagenet_weights(backbone, folder))
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
    try:
        with warnings.catch_warnings():  # a file of another network warns a hundred times before it fails
            warnings.simplefilter("ignore")
            application.load_weights(path)
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


def _cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def _find(backbone: str, places: list[Path]) -> Path | None:
    paths = (place / name for place in places for name in APPLICATIONS[backbone].files)
    return next((path for path in paths if path.is_file()), None)


def _download(backbone: str) -> Path:
    """Download into Keras's cache; a lock keeps a second worker from writing the same file."""
    _check_reachable()
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / f".{backbone}.lock"), _stall_timeout():
        found = _find(backbone, [cache])
        if found is None:
            builder = getattr(keras.applications, APPLICATIONS[backbone].builder)
            builder(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
            found = _find(backbone, [cache])
    if found is None:
        raise OSError(f"Keras did not write to {cache}; set KERAS_HOME to a folder that can be written")
    return found


def _check_reachable() -> None:
    """Raise OSError unless Keras's host answers; in a thread, since a name look-up has no timeout."""
    failures: list[BaseException] = [TimeoutError(f"no answer within {_PROBE_SECONDS:g} s")]

    def probe() -> None:
        request = urllib.request.Request(_HOST, method="HEAD")
        try:
            with contextlib.suppress(urllib.error.HTTPError):  # any status is an answer
                urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()  # noqa: S310 - a constant address
            failures.clear()
        except Exception as error:
            failures[:] = [error]

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if failures:
        raise OSError(f"{_HOST} cannot be reached ({failures[0]})")


@contextlib.contextmanager
def _stall_timeout() -> Iterator[None]:
    """Let a download that stands still fail, rather than hang a worker for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
