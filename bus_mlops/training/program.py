"""One compiled training program that serves many cells: tracing costs more than a short training.

A program holds a network, its optimizer, a train step and a prediction step, each traced once. `reset` brings
it to the state that a fresh process would start a cell from; the predictions that follow are bit-identical to
a fresh program's (same machine, same threads, deterministic ops: see `training/process.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bus_mlops.errors import NetworkError, TrainingError
from bus_mlops.files import replacing
from bus_mlops.models import weights, zoo
from bus_mlops.models.framework import keras, tf
from bus_mlops.spec import RunSpec
from bus_mlops.training import losses
from bus_mlops.training.augmentation import Strengths, augment
from bus_mlops.training.initialization import generators, reset_generators, reset_weights
from bus_mlops.training.optimizers import build_optimizer
from bus_mlops.training.process import configure_process

__all__ = ["EVALUATION_BATCH", "Batch", "Predictions", "Program", "batches", "channels", "configure_process"]

# Of predictions and validation: fixed, so that no number depends on the batch size of the training.
EVALUATION_BATCH = 32


class Batch(NamedTuple):
    """Arrays of one batch: images uint8 (B, S, S, 1 or 3) 0-255, labels float32 (B,) 0/1, masks, has_mask.

    Masks are uint8 (B, S, S) 0/1 and has_mask float32 (B,) 0/1; both are None for networks that only classify.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None
    has_mask: np.ndarray | None = None


class Outputs(NamedTuple):
    """Logits of malignancy (B,) and mask probabilities (B, S, S) 0-1, float32; None for what is not predicted."""

    logits: Any
    masks: Any


class Predictions(NamedTuple):
    """In the order asked for: probability of malignancy (n,) float32, masks (n, S, S) float16 or None.

    Masks are probabilities of 0-1, in half precision to keep a fold's masks in memory. The probability of a
    network that only segments is NaN.
    """

    probability: np.ndarray
    masks: np.ndarray | None


class Program:
    """The compiled program of all cells with one `RunSpec.program_key()`.

    `weights_folder` is looked at first for pretrained weights, which are read when the first cell needs them.

    Raises:
        NetworkError: The specification cannot be built.
    """

    def __init__(self, spec: RunSpec, weights_folder: Path | None = None) -> None:
        self.spec = spec
        self.task = spec.task
        self.model = zoo.build(spec)
        self.size: int = spec.training.input_size
        self._weights_folder = weights_folder
        self._pretrained: dict[str, dict[str, np.ndarray]] = {}
        names = ["malignancy_logit"] if self.task.classifies else []
        names += ["mask"] if self.task.segments else []
        self._network = keras.Model(self.model.input, {name: self.model.get_layer(name).output for name in names})
        self.optimizer = build_optimizer(spec.training.optimizer)
        # Variables made inside the train step would have it traced twice.
        self.optimizer.build(self.model.trainable_variables)
        self._optimizer_start = [variable.numpy() for variable in self.optimizer.variables]
        self._strengths = Strengths(*(_variable(0.0) for _ in Strengths._fields))
        self._loss_parameters = losses.LossParameters(*(_variable(1.0) for _ in losses.LossParameters._fields))
        self._seed = tf.Variable(0, dtype=tf.int32)
        self._train_step = tf.function(self._train, input_signature=self._signature())
        image = tf.TensorSpec((None, self.size, self.size, None), tf.uint8)
        self._predict_step = tf.function(self._forward, input_signature=[image])

    def reset(self, spec: RunSpec, cell_seed: int) -> None:
        """Bring everything to the start of a cell: weights, optimizer, rates, loss weights, seeds.

        Raises:
            NetworkError: The specification needs another program.
            WeightsError: Its pretrained weights are not to be had.
        """
        ours, asked = self.spec.program_key(), spec.program_key()
        if asked != ours:
            raise NetworkError(f"the program of {ours} cannot run a cell of {asked}.")
        training = spec.training
        pretrained = self._pretrained_values(spec) if training.weights != "random" else {}
        reset_weights(self.model, cell_seed, keep=pretrained)
        for variable in self.model.weights:
            if variable.path in pretrained:
                variable.assign(pretrained[variable.path])
        reset_generators(self.model, cell_seed)
        for variable, start in zip(self.optimizer.variables, self._optimizer_start, strict=True):
            variable.assign(start)
        self.optimizer.learning_rate.assign(training.optimizer.learning_rate)
        for name, tensor in self._strengths._asdict().items():
            tensor.assign(float(getattr(training.augmentation, name)))
        for tensor, value in zip(self._loss_parameters, losses.loss_parameters(training.loss), strict=True):
            tensor.assign(value)
        self._seed.assign(cell_seed % 2**31)

    def train_batch(self, batch: Batch, step: int) -> tf.Tensor:
        """One step of the optimizer; `step` counts from 0 over all epochs.

        Returns:
            The batch's loss, a scalar.
        """
        arrays = [array for array in batch if array is not None]
        return self._train_step(*arrays, np.int32(step))

    def loss(self, batch: Batch, outputs: Outputs) -> float:
        """The training's loss of a batch from what was predicted for it."""
        masks = None if batch.masks is None else tf.cast(batch.masks, tf.float32)
        return float(self._loss(outputs, tf.constant(batch.labels), masks, batch.has_mask))

    def forward(self, images: np.ndarray) -> Outputs:
        """The outputs, as arrays, for a uint8 batch (B, S, S, 1 or 3)."""
        found = self._predict_step(images)
        return Outputs(*(None if output is None else output.numpy() for output in found))

    def predict(self, images: np.ndarray, index: np.ndarray) -> Predictions:
        """Predict the images at `index` batch by batch, straight from a memory-mapped (N, S, S[, 3])."""
        probability = np.full(len(index), np.nan, np.float32)
        masks = np.zeros((len(index), self.size, self.size), np.float16) if self.task.segments else None
        for places in batches(np.arange(len(index)), EVALUATION_BATCH):
            outputs = self.forward(channels(images[index[places]]))
            if outputs.logits is not None:
                probability[places] = tf.sigmoid(outputs.logits).numpy()
            if masks is not None:
                masks[places] = outputs.masks
        return Predictions(probability, masks)

    def snapshot(self) -> list[np.ndarray]:
        """A copy in memory of all weights."""
        return [variable.numpy() for variable in self.model.weights]

    def restore(self, values: list[np.ndarray]) -> None:
        """Set all weights to a snapshot."""
        for variable, value in zip(self.model.weights, values, strict=True):
            variable.assign(value)

    def state(self) -> list[np.ndarray]:
        """A copy in memory of all that training changes: weights, generators of dropout, the optimizer's variables."""
        return [variable.numpy() for variable in self._variables()]

    def resume(self, values: list[np.ndarray]) -> None:
        """Go back to a `state()` of the same cell, after `reset`."""
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)

    def save(self, path: Path) -> None:
        """Write the network for inference (no optimizer, no loss) as `.keras`; whole or not at all."""
        with replacing(path) as temporary:
            self.model.save(temporary)

    def load(self, path: Path) -> None:
        """Set all weights to those of a file that `save` has written.

        Raises:
            TrainingError: It holds those of another network.
        """
        try:
            self.model.load_weights(path)
        except (ValueError, KeyError, OSError) as error:
            raise TrainingError(f"the weights of {path.name} do not fit {self.spec.network}: {error}") from error

    def _variables(self) -> list[Any]:
        """Weights first."""
        return [*self.model.weights, *generators(self.model).values(), *self.optimizer.variables]

    def _pretrained_values(self, spec: RunSpec) -> dict[str, np.ndarray]:
        name = spec.training.weights
        if name not in self._pretrained:
            self._pretrained[name] = weights.pretrained_values(self.model, spec, self._weights_folder)
        return self._pretrained[name]

    def _signature(self) -> list[tf.TensorSpec]:
        """Of the train step; the batch size is open, so that a last, smaller batch does not retrace."""
        size = self.size
        signature = [tf.TensorSpec((None, size, size, None), tf.uint8), tf.TensorSpec((None,), tf.float32)]
        if self.task.segments:
            signature += [tf.TensorSpec((None, size, size), tf.uint8), tf.TensorSpec((None,), tf.float32)]
        return [*signature, tf.TensorSpec((), tf.int32)]

    def _train(self, images: tf.Tensor, labels: tf.Tensor, *rest: tf.Tensor) -> tf.Tensor:
        masks, has_mask, step = rest if self.task.segments else (None, None, rest[0])
        images, masks = augment(images, masks, self._strengths, self._seed, step)
        with tf.GradientTape() as tape:
            loss = self._loss(self._outputs(images, training=True), labels, masks, has_mask)
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self.optimizer.apply(gradients, variables)
        return loss

    def _loss(self, outputs: Outputs, labels: tf.Tensor, masks: tf.Tensor | None, has_mask: tf.Tensor) -> tf.Tensor:
        parameters = self._loss_parameters
        if not self.task.classifies:
            return losses.dice_loss(masks, outputs.masks, has_mask)
        classification = losses.classification_loss(labels, outputs.logits, parameters)
        if not self.task.segments:
            return classification
        return losses.multitask_loss(classification, losses.dice_loss(masks, outputs.masks, has_mask), parameters)

    def _outputs(self, images: tf.Tensor, training: bool) -> Outputs:
        found = self._network(self._three_channels(images), training=training)
        return Outputs(
            found["malignancy_logit"][:, 0] if self.task.classifies else None,
            found["mask"][..., 0] if self.task.segments else None,
        )

    def _forward(self, images: tf.Tensor) -> Outputs:
        return self._outputs(tf.cast(images, tf.float32), training=False)

    def _three_channels(self, images: tf.Tensor) -> tf.Tensor:
        """Gray repeated, colour as it is; after the augmentation, since one channel is cheaper to warp."""
        shape = (tf.shape(images)[0], self.size, self.size, 3)
        return tf.ensure_shape(tf.broadcast_to(images, shape), (None, self.size, self.size, 3))


def batches(index: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of `size` indices; the last may be smaller."""
    return (index[start : start + size] for start in range(0, len(index), size))


def channels(images: np.ndarray) -> np.ndarray:
    """Give a gray batch (B, S, S) its channel axis; colour (B, S, S, 3) is returned as it is."""
    return images[..., np.newaxis] if images.ndim == 3 else images


def _variable(value: float) -> Any:
    return tf.Variable(value, dtype=tf.float32, trainable=False)
