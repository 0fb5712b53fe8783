"""Files with pretrained weights: found in a given folder, else in Keras's cache, else downloaded through Keras.

What lies on the disk is found without Keras, so that a plan can say what cannot be trained.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bus_mlops.errors import WeightsError
from bus_mlops.models.applications import APPLICATIONS

_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/"
_PROBE_SECONDS = 10.0
_STALL_SECONDS = 30.0


def pretrained_weights(weights: str, backbone: str, folder: Path | None = None) -> Path:
    """`imagenet_weights`, or `radimagenet_weights` where `weights` says so."""
    return (radimagenet_weights if weights == "radimagenet" else imagenet_weights)(backbone, folder)


def radimagenet_weights(backbone: str, folder: Path | None = None) -> Path:
    """The file with the RadImageNet weights (no top) of an application, under its released name.

    Looks in `folder`, then in Keras's cache, and nowhere else: they are to be had on request (Mei et al.,
    "RadImageNet", Radiology: Artificial Intelligence, 2022; github.com/BMEII-AI/RadImageNet).

    Raises:
        WeightsError: There is none; says which file to put where.
    """
    having = [name for name, found in APPLICATIONS.items() if found.radimagenet]
    if backbone not in having:
        raise WeightsError(f"no RadImageNet weights are known for {backbone!r}; only for {', '.join(having)}.")
    places = [place for place in (folder, _cache()) if place is not None]
    name = APPLICATIONS[backbone].radimagenet
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        looked = " and ".join(f"{place}{'' if place.is_dir() else ' (no such folder)'}" for place in places)
        raise WeightsError(
            f"RadImageNet weights of {backbone} are not in {looked}. Ask for them at "
            f"https://github.com/BMEII-AI/RadImageNet, and put {name} into {places[0]}"
            f"{'' if folder else ' (or name a folder as weights_folder)'}; or train with weights: imagenet or random."
        )
    return found


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


def _cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def _find(backbone: str, places: list[Path]) -> Path | None:
    paths = (place / name for place in places for name in APPLICATIONS[backbone].files)
    return next((path for path in paths if path.is_file()), None)


def _download(backbone: str) -> Path:
    """Download into Keras's cache; a lock keeps a second worker from writing the same file."""
    import filelock

    _check_reachable()
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)

    with filelock.FileLock(cache / f".{backbone}.lock"), _stall_timeout():
        found = _find(backbone, [cache])
        if found is None:
            from bus_mlops.models.framework import keras

            wanted = APPLICATIONS[backbone]
            builder = getattr(keras.applications, wanted.builder)
            builder(include_top=False, weights="imagenet", input_shape=(224, 224, 3), **wanted.arguments)
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
        reason = getattr(failures[0], "reason", failures[0])  # of a URLError, whose own text is markup
        raise OSError(f"{_HOST} cannot be reached: {reason}")


@contextlib.contextmanager
def _stall_timeout() -> Iterator[None]:
    """Let a download that stands still fail, rather than hang a worker for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
