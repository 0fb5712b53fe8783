"""A recorded network opened for questions: its answer before the sigmoid, its last features, its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bus_mlops.images.model_input import as_rgb
from bus_mlops.packaging.onnx_export import NetworkReader

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

BATCH = 32


@dataclass(frozen=True)
class Answers:
    """What a network says of N images.

    Attributes:
        logits: (N,), log odds of malignancy.
        features: (N, n), what its last layer for the class is given.
        masks: (N, S, S), 0-1; None of a network that only classifies.
    """

    logits: NDArray[np.float64]
    features: Floats
    masks: Floats | None


class ProbedNetwork:
    """A Keras network that names a class, run as it is in evaluation: no dropout, fixed normalisation."""

    def __init__(self, network: Any) -> None:
        from bus_mlops.models.framework import keras, tf

        logit = network.get_layer("malignancy_logit")
        outputs = {"logit": logit.output, "features": logit.input}
        if "mask" in network.output_names:
            outputs["mask"] = network.get_layer("mask").output
        self.network = network
        self._model = keras.Model(network.input, outputs)
        signature = [tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)]
        self._run = tf.function(lambda squares: self._model(squares, training=False), input_signature=signature)

    def __call__(self, images: NDArray[Any]) -> Answers:
        """Its answers to N images, (N, S, S) or (N, S, S, 3) of 0-255."""
        batches = [self._run(_rgb(images[at : at + BATCH])) for at in range(0, len(images), BATCH)]
        joined = {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}
        return Answers(
            logits=joined["logit"][:, 0].astype(np.float64),
            features=joined["features"].reshape(len(images), -1),
            masks=joined["mask"][..., 0] if "mask" in joined else None,
        )

    def logits(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Its log odds of malignancy, (N,)."""
        return self(images).logits

    def attacked(self, images: Pixels, labels: NDArray[np.int64], epsilon: float) -> Floats:
        """The images after one step of the fast gradient sign method: away from the label as far as epsilon allows.

        Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", 2015. A gray image stays gray.
        The loss is taken before the sigmoid, whose gradient vanishes where the network is sure.

        Args:
            images: (N, S, S) or (N, S, S, 3), 0-255.
            labels: (N,), 0 or 1.
            epsilon: How far a pixel may move, in the units of 0-255.
        """
        attacked = [
            self._step(images[at : at + BATCH], labels[at : at + BATCH], epsilon) for at in range(0, len(images), BATCH)
        ]
        return np.concatenate(attacked)

    def _step(self, images: Pixels, labels: NDArray[np.int64], epsilon: float) -> Floats:
        from bus_mlops.models.framework import tf

        pixels = tf.constant(images, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            squares = pixels if images.ndim == 4 else tf.repeat(pixels[..., tf.newaxis], 3, axis=-1)
            logits = self._model(squares, training=False)["logit"][:, 0]
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels.astype(np.float32), logits)
        step = np.sign(np.asarray(tape.gradient(loss, pixels)))
        moved: Floats = np.clip(images + epsilon * step, 0, 255).astype(np.float32)
        return moved


class NetworkOpener:
    """Opens `.keras` files one after the other; what is built alike is built and traced once, which takes longest.

    What a call returns answers with the weights of the file of the next call, once there was one.
    """

    def __init__(self) -> None:
        self._read = NetworkReader()
        self._latest: ProbedNetwork | None = None

    def __call__(self, path: Path) -> ProbedNetwork:
        """The network of a file."""
        network = self._read(path)
        if self._latest is None or self._latest.network is not network:
            self._latest = ProbedNetwork(network)
        return self._latest


def _rgb(images: NDArray[Any]) -> Floats:
    return np.stack([as_rgb(image) for image in images]).astype(np.float32)
