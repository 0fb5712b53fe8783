"""`check_network`: what every network must satisfy, whether of the platform or of a file in `extensions/`."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.config import Training
from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.models.entry import NetworkEntry, Option, OptionRule
from bus_mlops.spec import RunSpec
from bus_mlops.testing.contract import ContractError, require

if TYPE_CHECKING:
    from bus_mlops.models.framework import keras

_ONNX_TOLERANCE = 1e-4
_BATCH_TOLERANCE = 1e-3  # of a logit, between one image alone and the same in a batch


def network_spec(network: str, options: Mapping[str, Option] | None = None, **training: Any) -> RunSpec:
    """A specification at the smallest size of 64 px or more that the network takes, with random weights."""
    entry = zoo.entry(network)
    smallest = max(64, entry.minimum)
    values: dict[str, Any] = {"input_size": -(-smallest // entry.multiple) * entry.multiple, "weights": "random"}
    if not entry.backbone:  # which alone has a normalisation of ImageNet's
        values["scaling"] = entry.scaling
    return RunSpec(
        network=network,
        options=dict(options or {}),
        cohort=("any",),
        task=entry.task,
        training=Training.model_validate(values | training),
        seed=0,
        code=entry.code,
    )


def random_images(model: keras.Model, count: int = 2) -> np.ndarray:
    """Noise for a network: float32 (count, S, S, 3), 0-255."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


def check_network(
    network: str, options: Mapping[str, Option] | None = None, *, onnx: bool = True, **training: Any
) -> None:
    """Check a network by its name in `params.yaml`, built with random weights at a small size.

    Its entry says what it takes; its outputs are probabilities, of each image alone; its layers and initial weights
    are the same in every process and follow from the seed; every layer learns; saved as `.keras` it loads without
    custom objects and answers alike, and so does its export to ONNX.

    Args:
        network: The name; files of `extensions/` must have been loaded (`load_config()` does).
        options: Options of the network; defaults for those that are not named.
        onnx: Whether to export it too, which takes about half a minute. A network that only segments is never
            exported.
        **training: Values of `training` in `params.yaml`, such as `scaling` or `input_size` (pixels).

    Raises:
        ContractError: Something does not hold; the message says what, and for which layer.
        NetworkError: The network cannot be built at all.
    """
    check_entry(zoo.entry(network))
    spec = network_spec(network, options, **training)
    model = zoo.build(spec)
    check_built_network(spec, model)
    if onnx and spec.task.classifies:
        with exporter() as process:
            check_onnx(model, process)


def check_entry(entry: NetworkEntry) -> None:
    """What is known of a network without building it: defaults, bounds of its options, sizes, its specification."""
    name = entry.name
    require(bool(entry.label and entry.source), f"{name}: label and source must say what it is and where from.")
    defaults = entry.resolve({})
    require(entry.resolve(defaults) == defaults, f"{name}: its defaults are not what its options resolve to.")
    entry.check_size(entry.input_size)
    for size in {entry.minimum - 1, entry.input_size + (entry.multiple > 1)} - {entry.input_size}:
        _require_refused(name, f"input_size {size}", lambda size=size: entry.check_size(size))
    _require_refused(name, "an unknown option", lambda: entry.resolve({"no such option": 1}))
    spec = network_spec(name)
    again = RunSpec.model_validate_json(spec.model_dump_json())
    require(again == spec and again.program_key() == spec.program_key(), f"{name}: its specification changes in JSON.")
    for option, rule in entry.options.items():
        beside = dict([rule.beside]) if rule.beside else {}  # with which alone it has an effect
        for value in _other_values(rule):
            chosen = {**beside, option: value}
            require(entry.title(chosen) != "", f"{name}: no title with {option} {value}.")
            other = network_spec(name, chosen).program_key()
            require(other != network_spec(name, beside).program_key(), f"{name}: {option} {value} shares a program.")
        _require_refused(name, f"an unknown {option}", lambda option=option: entry.resolve({option: "no such value"}))


def check_built_network(spec: RunSpec, model: keras.Model) -> None:
    """What is asked of a network that `zoo.build(spec)` has made; its weights are those of seed 1 afterwards."""
    from bus_mlops.training.initialization import reset_weights

    reset_weights(model, 1)
    _check_probabilities(spec, model)
    _check_saved(spec, model)
    _check_layers_learn(spec, model)
    _check_start(spec, model)


def exporter() -> ProcessPoolExecutor:
    """A process of its own for exports, another after two: they take gigabytes, which only its end gives back."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=2)


def check_onnx(model: keras.Model, process: Executor) -> None:
    """Exported to ONNX by an `exporter()`, it answers alike."""
    from bus_mlops.packaging.onnx_export import export_onnx

    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.keras"
        model.save(path)
        difference = process.submit(export_onnx, path, path.with_suffix(".onnx")).result()
    require(difference < _ONNX_TOLERANCE, f"{model.name}: ONNX differs from Keras by {difference:.2g}.")


def _other_values(rule: OptionRule) -> list[Option]:
    values = rule.choices if rule.bounds is None else [type(rule.default)(bound) for bound in rule.bounds]
    return [value for value in values if value != rule.default]


def _require_refused(name: str, what: str, action: Any) -> None:
    try:
        action()
    except NetworkError:
        return
    raise ContractError(f"{name}: {what} must be refused.")


def _check_probabilities(spec: RunSpec, model: keras.Model) -> None:
    images = np.concatenate([random_images(model), np.zeros((1, *model.input_shape[1:]), np.float32)])
    for name, values in _numpy(model(images, training=False)).items():
        within = np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
        require(bool(within), f"{spec.network}: {name} must be probabilities of 0-1.")
    together, alone = _logits(model, images), _logits(model, images[:1])
    for name in together:
        difference = float(np.abs(together[name][:1] - alone[name]).max())
        limit = _BATCH_TOLERANCE * max(1.0, float(np.abs(alone[name]).max()))
        require(difference <= limit, f"{spec.network}: {name} of an image depends on the others in its batch.")


def _check_saved(spec: RunSpec, model: keras.Model) -> None:
    """Saved as `.keras` and loaded in safe mode without custom objects, the network answers bit for bit alike."""
    from bus_mlops.models.framework import keras

    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.keras"
        model.save(path)
        try:
            loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise ContractError(f"{spec.network}: saved, it cannot be loaded without its code: {error}") from error
    require(set(loaded.output) == set(model.output), f"{spec.network}: saved, its outputs are {set(loaded.output)}.")
    images = random_images(model)
    before, after = _logits(model, images), _logits(loaded, images)
    for name in before:
        require(bool(before[name].std() > 0), f"{spec.network}: {name} is the same for all images.")
        require(np.array_equal(before[name], after[name]), f"{spec.network}: saved, it answers otherwise.")
    for layer in loaded.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            expected = spec.training.batch_norm_momentum
            require(layer.momentum == expected, f"{spec.network}: {layer.name} has momentum {layer.momentum}.")


def _check_layers_learn(spec: RunSpec, model: keras.Model) -> None:
    """All gradients are finite, and in each trainable layer at least one is not zero."""
    from bus_mlops.models.framework import tf
    from bus_mlops.training.initialization import generators

    images = random_images(model, 4)
    # Stochastic depth may leave out a block for all four images (EfficientNet: once in 400): always the same draw.
    for number, state in enumerate(generators(model).values()):
        state.assign([number, 0])
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        # Unequal weights on pixels and cases, so that no gradient cancels by symmetry.
        rng = np.random.default_rng(0)
        loss = sum(tf.reduce_sum(output * rng.normal(size=output.shape)) for output in outputs.values())
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    greatest: dict[str, float] = {}
    for variable, gradient in zip(variables, gradients, strict=True):
        require(gradient is not None, f"{spec.network}: {variable.path} takes no part in any output.")
        values = np.abs(np.asarray(gradient))
        require(bool(np.isfinite(values).all()), f"{spec.network}: the gradient of {variable.path} is not finite.")
        layer = variable.path.rsplit("/", 1)[0]
        greatest[layer] = max(greatest.get(layer, 0.0), float(values.max()))
    silent = [layer for layer, gradient in greatest.items() if gradient == 0]
    require(not silent, f"{spec.network}: layers without a gradient: {', '.join(silent)}")


def _check_start(spec: RunSpec, used: keras.Model) -> None:
    """A used network that is reset is a fresh one, whatever the process has built before; the seed decides."""
    from bus_mlops.models.framework import keras
    from bus_mlops.training.initialization import reset_weights

    rng = np.random.default_rng(0)
    for layer in used.layers:
        if not isinstance(layer, keras.layers.Normalization):  # whose numbers are constants of the network
            for variable in layer.weights:
                variable.assign(rng.normal(size=variable.shape))
    # Keras counts the layers of a process and names by the count those that have no name of their own.
    keras.layers.Conv2D(1, 1)
    keras.layers.Dense(1)
    fresh = zoo.build(spec)
    paths = [variable.path for variable in used.weights]
    require(paths == [variable.path for variable in fresh.weights], f"{spec.network}: names of layers are not stable.")
    reset_weights(fresh, 2)
    other = [np.asarray(variable) for variable in fresh.weights]
    for model in (used, fresh):
        reset_weights(model, 1)
    differs = False
    for a, b, c in zip(used.weights, fresh.weights, other, strict=True):
        values = np.asarray(a)
        require(np.array_equal(values, np.asarray(b)), f"{spec.network}: {a.path} is not reset to its start.")
        differs |= not np.array_equal(values, c)
    require(differs, f"{spec.network}: the seed changes none of its initial weights.")


def _logits(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Before the sigmoid, since that of a network without training may be 0.5 to the last bit for all images."""
    from bus_mlops.models.framework import keras

    logits = {name: model.get_layer(f"{name}_logit").output for name in model.output}
    return _numpy(keras.Model(model.input, logits)(images, training=False))


def _numpy(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values) for name, values in outputs.items()}
