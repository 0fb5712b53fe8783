"""From a `.keras` file to ONNX, so that consumers need no TensorFlow; refuses a graph that disagrees."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import pkgutil
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bus_mlops.environment import settings
from bus_mlops.errors import RegistryError
from bus_mlops.training.process import without_chatter

# In probability: sums in another order move a pixel of a network that was trained for a few epochs by 1.2e-4. This must
# stay within what answers may differ by from what was recorded, 1e-3 (promotion.recomputation).
TOLERANCE = 5e-4
# What differs between networks that are built alike: seeds of first weights, addresses of the process that saved them.
_INCIDENTAL = re.compile(r'("seed"|"shared_object_id"): \d+')
# What Keras raises for files that are damaged, or not its own.
_DAMAGES = (ValueError, OSError, TypeError, KeyError, zipfile.BadZipFile, zlib.error)
# Otherwise tf2onnx copies the whole graph before each of its 24 passes: 39 s instead of 16 for MT-ESTAN.
_SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF2ONNX_CATCH_ERRORS": "FALSE"}


def export_onnx(keras_path: Path, onnx_path: Path, network: Any = None) -> float:
    """Export a trained network.

    The graph takes `image` (B, S, S, 3) float32, 0-255, of any batch size B, and gives `malignancy` (B, 1)
    and, for multitask networks, `mask` (B, S, S, 1), both as probabilities. Checked on random and extreme
    images in batches of 1 and 5.

    Args:
        keras_path: Of the network.
        onnx_path: Where to.
        network: It, if it is loaded already.

    Returns:
        The greatest |Keras - ONNX| over its outputs, in probability.

    Raises:
        RegistryError: The two differ by more than 5e-4, or the outputs have other names.
    """
    if network is None:
        with _quiet():
            network = load_network(keras_path)
    names = write_onnx(network, onnx_path)
    if "malignancy" not in names or not set(names) <= {"malignancy", "mask"}:
        raise RegistryError(
            f"{keras_path} has outputs {names}: a package needs 'malignancy' and, if multitask, 'mask'. "
            "Build it with bus_mlops.models.zoo."
        )
    difference = _difference(network, onnx_path)
    if not difference <= TOLERANCE:
        raise RegistryError(
            f"{onnx_path} differs from {keras_path} by {difference:.2g} (allowed: {TOLERANCE:g}). Not "
            "exported: the network has an operation that ONNX computes differently, or weights that are not "
            "finite."
        )
    return difference


def write_onnx(network: Any, onnx_path: Path) -> list[str]:
    """Write a Keras network as ONNX as it is, unchecked; returns the names of its outputs, sorted.

    As `network.export` does, which traces anew each time; the members of an ensemble are traced once. The network is
    kept for that, and may be given the weights of a later one.
    """
    with _quiet():
        import tf2onnx

        from bus_mlops.models.framework import keras

        keras.src.export.tf2onnx_lib.patch_tf2onnx()  # without it tf2onnx fails with numpy 2
        traced = _traced(network)
        onnx_path.parent.mkdir(parents=True, exist_ok=True)
        tf2onnx.convert.from_function(traced.function, traced.signature, output_path=str(onnx_path))
    return _name_dimensions(onnx_path)


def how_built(network: Any) -> str:
    """How a Keras network is built, without what is incidental: alike ones can swap weights."""
    return _INCIDENTAL.sub(r"\1: null", network.to_json())


class _Traced(NamedTuple):
    """A network with its traced answer to images, whose weights are read when it is converted."""

    built: str
    network: Any
    function: Any
    signature: list[Any]


# The latest one, which has the weights of the latest network.
_LATEST: list[_Traced] = []


def _traced(network: Any) -> _Traced:
    """The traced answer of a network; that of one built alike before it takes its weights instead."""
    from bus_mlops.models.framework import keras, tf

    built = how_built(network)
    if _LATEST and _LATEST[0].built == built:
        _LATEST[0].network.set_weights(network.get_weights())
        return _LATEST[0]
    _fix_normalizations(network)
    size = int(network.input_shape[1])
    signature = [tf.TensorSpec((None, size, size, 3), tf.float32, name="image")]
    function = tf.function(lambda image: network(image, training=False), input_signature=signature)
    traced = _Traced(built, network, function, signature)
    # Constants that were made of weights would stay those of the first network.
    if not any(isinstance(layer, keras.layers.Normalization) for layer in network.layers):
        _LATEST[:] = [traced]
    return traced


def _fix_normalizations(network: Any) -> None:
    """Make the constants of Normalization layers (EfficientNet's) arrays: of tensors the graph would make inputs."""
    from bus_mlops.models.framework import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def load_network(path: Path) -> Any:
    """Load a `.keras` file without compile state and without running code from it.

    Raises:
        RegistryError: It cannot be loaded so.
    """
    with without_chatter():
        from bus_mlops.models.framework import keras

    import bus_mlops.models

    # Layers of the platform's own are known to Keras only once their modules were imported.
    for module in pkgutil.iter_modules(bus_mlops.models.__path__, "bus_mlops.models."):
        importlib.import_module(module.name)
    if path.suffix != ".keras":
        raise RegistryError(f"{path} is not a .keras file: packages hold Keras's own format, never a pickle or HDF5.")
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except _DAMAGES as error:
        raise RegistryError(f"{path} cannot be loaded as a Keras model: {error}") from error
    if len(network.inputs) != 1 or len(network.input_shape) != 4 or network.input_shape[1] is None:
        raise RegistryError(f"{path} must have one input (B, S, S, 3) but has {network.input_shape}.")
    return network


def is_bare(path: Path) -> bool:
    """Whether a `.keras` file holds a network and its weights, and nothing else: no compile state."""
    try:
        with zipfile.ZipFile(path) as archive:
            bare = sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
            return bare and not json.loads(archive.read("config.json")).get("compile_config")
    except (*_DAMAGES, AttributeError):
        return False  # `load_network` says what is wrong with it


class NetworkReader:
    """Loads `.keras` files one after the other: the members of an ensemble are built alike, and built once.

    The network that a call returns has other weights after the next call.
    """

    def __init__(self) -> None:
        self._built, self._network = "", None

    def __call__(self, path: Path) -> Any:
        """The network of a file, as `load_network` loads it.

        Raises:
            RegistryError: It cannot be loaded so.
        """
        built = _built_in(path)
        if self._network is None or not built or built != self._built:
            self._built, self._network = built, load_network(path)
            return self._network
        try:
            self._network.load_weights(path)
        except _DAMAGES as error:
            raise RegistryError(f"{path} cannot be loaded as a Keras model: {error}") from error
        return self._network


def _built_in(path: Path) -> str:
    """How the network of a `.keras` file is built, without seeds and compile state; "" where that is not all of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        config.pop("compile_config", None)
    except (*_DAMAGES, AttributeError):
        return ""  # `load_network` says what is wrong with it
    text = json.dumps(config, sort_keys=True)
    # Their constants are made when a network is loaded.
    return "" if '"Normalization"' in text else _INCIDENTAL.sub(r"\1: null", text)


def _name_dimensions(onnx_path: Path) -> list[str]:
    """Call the free dimension `batch` everywhere and return the outputs' names."""
    import onnx

    model = onnx.load(str(onnx_path))
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        first.ClearField("dim_value")
        first.dim_param = "batch"
    onnx.checker.check_model(model)
    onnx.save(model, str(onnx_path))
    return sorted(value.name for value in model.graph.output)


def _probes(size: int) -> np.ndarray:
    """Five images, 0-255: noise, and the extremes at which normalisations and sigmoids go wrong."""
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3))
    black = np.zeros((1, size, size, 3))
    point = black.copy()
    point[0, size // 2, size // 2] = 255
    return np.concatenate([noise, black, np.full_like(black, 255), point]).astype(np.float32)


def _difference(network: Any, onnx_path: Path) -> float:
    """How far ONNX is from what Keras answers to the probes, when it is asked about all of them and about the first."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_path), providers=["CPUExecutionProvider"])
    names, images = [output.name for output in session.get_outputs()], _probes(int(network.input_shape[1]))
    expected = {name: np.asarray(values) for name, values in network(images, training=False).items()}
    distances = []
    for count in (1, len(images)):
        answers = session.run(names, {session.get_inputs()[0].name: images[:count]})
        distances += [np.abs(each - expected[name][:count]).max() for name, each in zip(names, answers, strict=True)]
    # np.max keeps NaN, which then fails the comparison with the tolerance.
    return float(np.max(distances))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the chatter of TensorFlow and tf2onnx off the terminal; errors still raise."""
    levels = {name: logging.getLogger(name).level for name in ("tensorflow", "tf2onnx", "absl")}
    try:
        with settings(_SETTINGS), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            for name in levels:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
