"""What training, prediction and export rely on in every network: checked once, when a network has been built."""

from __future__ import annotations

from bus_mlops.errors import NetworkError
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.models.framework import keras


def check_model(network: NetworkEntry, model: keras.Model, size: int) -> None:
    """Raise NetworkError unless a network for images of side `size` (pixels) is what its entry says."""
    where = f"{network.name} ({network.builder})"
    if not isinstance(model, keras.Model) or not isinstance(getattr(model, "output", None), dict):
        raise NetworkError(f"{where} must return a functional Keras model whose outputs are a dict.")
    expected: dict[str, tuple[int | None, ...]] = {"malignancy": (None, 1)} if network.task.classifies else {}
    if network.task.segments:
        expected["mask"] = (None, size, size, 1)
    found = {name: tuple(tensor.shape) for name, tensor in model.output.items()}
    if model.input_shape != (None, size, size, 3) or found != expected:
        raise NetworkError(
            f"{where} must turn images (None, {size}, {size}, 3) into {expected} but turns {model.input_shape} into "
            f"{found}."
        )
    names = [layer.name for layer in model.layers]
    for output in expected:
        if f"{output}_logit" not in names:
            raise NetworkError(f"{where} has no layer {output}_logit, which holds the values before the sigmoid.")
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            raise NetworkError(
                f"{where} holds the model {layer.name!r} as one layer, whose weights cannot be reset between runs. "
                "Build it on the scaled image instead: input_tensor=... of a Keras application."
            )
