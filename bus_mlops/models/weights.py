"""ImageNet weights: found in a given folder, else in Keras's cache, else downloaded through Keras."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import filelock
import keras
import numpy as np

from bus_mlops.errors import WeightsError
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.models import zoo

# The file that Keras downloads, and the name of the same weights in Keras 3's own format. MobileNet has
# weights for four input sizes; those of 224 are used at every size, so that sizes differ in nothing else.
FILES = {
    "mobilenet": ("mobilenet_1_0_224_tf_no_top.h5", "mobilenet_1_0_224_notop.weights.h5"),
    "resnet50": ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "resnet50_notop.weights.h5"),
    "densenet121": (
        "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "densenet121_notop.weights.h5",
    ),
}
_APPLICATIONS = {
    "mobilenet": keras.applications.MobileNet,
    "resnet50": keras.applications.ResNet50,
    "densenet121": keras.applications.DenseNet121,
}
_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/"
_PROBE_SECONDS = 10.0
_STALL_SECONDS = 30.0


def imagenet_weights(backbone: str, folder: Path | None = None) -> Path:
    """The file with the ImageNet weights (no top) of mobilenet, resnet50 or densenet121.

    Looks in `folder`, then in Keras's cache (`KERAS_HOME` or `~/.keras`, there in `models`), then downloads
    into that cache. Raises WeightsError that says which file to put where; without a network within about ten
    seconds.
    """
    if backbone not in FILES:
        raise WeightsError(f"no ImageNet weights are known for {backbone!r}; only for {', '.join(FILES)}.")
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
            f"Put {' or '.join(FILES[backbone])} into {places[0]}"
            f"{'' if folder else ' (or name a folder as weights_folder)'}, or train with weights: random."
        ) from error


def pretrained_values(model: keras.Model, spec: RunSpec, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The pretrained value of each variable of a network's backbone, by the variable's path in the network.

    Raises WeightsError when the file is missing, damaged, or of another network.
    """
    backbone = zoo.entry(spec.network).backbone_of(spec.options)
    application = load_application(backbone, imagenet_weights(backbone, folder))
    values: dict[str, np.ndarray] = {}
    for layer in application.layers:
        targets = model.get_layer(layer.name).weights if layer.weights else []
        for target, source in zip(targets, layer.weights, strict=True):
            values[target.path] = np.asarray(source)
    return values


def load_application(backbone: str, path: Path) -> keras.Model:
    """The Keras application without top and with these weights; raises WeightsError naming the file."""
    application = _APPLICATIONS[backbone](include_top=False, weights=None, input_shape=(224, 224, 3))
    try:
        with warnings.catch_warnings():  # a file of another network warns a hundred times before it fails
            warnings.simplefilter("ignore")
            application.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} is damaged, or does not hold the weights of {backbone} without top: delete or replace "
            f"it. ({' '.join(str(error).split())[:200]})"
        ) from error
    return application


def _cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def _find(backbone: str, places: list[Path]) -> Path | None:
    paths = (place / name for place in places for name in FILES[backbone])
    return next((path for path in paths if path.is_file()), None)


def _download(backbone: str) -> Path:
    """Download into Keras's cache; a lock keeps a second worker from writing the same file."""
    _check_reachable()
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / f".{backbone}.lock"), _stall_timeout():
        found = _find(backbone, [cache])
        if found is None:
            _APPLICATIONS[backbone](include_top=False, weights="imagenet", input_shape=(224, 224, 3))
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
                urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
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
