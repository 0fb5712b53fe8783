"""Linear probes: the features of a frozen encoder, computed once, and a logistic regression on them.

The honest floor of every table: what a network has to beat that is trained for minutes instead of seconds.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bus_mlops.errors import TrainingError
from bus_mlops.evaluation.roc import weighted_roc_auc
from bus_mlops.files import replacing
from bus_mlops.models import zoo
from bus_mlops.models.framework import keras, tf
from bus_mlops.spec import RunSpec
from bus_mlops.training.fit import CellData, FitResult
from bus_mlops.training.logistic_regression import Fitted, cross_entropy, logistic_regression
from bus_mlops.training.program import EVALUATION_BATCH, Predictions, Program, batches, channels
from bus_mlops.training.state import EpochLog

# Of a file of features; raise it where the same weights and images give others.
_VERSION = 1


class ProbeProgram(Program):
    """A program whose encoder stays as it is: features are computed once, and cells differ in the last layer only.

    Predictions of images whose features are known come from these; they are those of the saved network but for the
    rounding of float32.
    """

    def __init__(self, spec: RunSpec, weights_folder: Path | None = None) -> None:
        super().__init__(spec, weights_folder)
        self._last = self.model.get_layer("malignancy_logit")
        self._encoder = keras.Model(self.model.input, self._last.input)
        image = tf.TensorSpec((None, self.size, self.size, None), tf.uint8)
        self._encode_step = tf.function(self._encode, input_signature=[image])
        self._key = ""
        self._known: dict[int, np.ndarray] = {}

    def reset(self, spec: RunSpec, cell_seed: int) -> None:
        """As of any program; features of other weights are forgotten."""
        super().reset(spec, cell_seed)
        key = self._weights_digest()
        if key != self._key:
            self._key, self._known = key, {}

    def load(self, path: Path) -> None:
        """As of any program; features of other weights are forgotten."""
        super().load(path)
        self._key, self._known = "", {}

    def learn_features(self, images: np.ndarray, sources: Iterable[np.ndarray], folder: Path | None) -> None:
        """Compute the features of images, or read those that were kept.

        Args:
            images: uint8 (N, S, S) or (N, S, S, 3), 0-255.
            sources: Row numbers, a file of features each.
            folder: Where features are kept, by a digest of images, weights and whatever else they follow from; it may
                be deleted at any time. None: they are not kept.
        """
        for rows in sources:
            if not len(rows) or all(int(row) in self._known for row in rows):
                continue
            features = self._kept_features(images, rows, folder)
            self._known.update(zip(rows.tolist(), features, strict=True))

    def features(self, index: np.ndarray) -> np.ndarray:
        """Features that `learn_features` knows, float32 (len(index), n)."""
        return np.stack([self._known[int(row)] for row in index])

    def set_last_layer(self, fitted: Fitted) -> None:
        """Let the network answer as a logistic regression on its features does."""
        self._last.kernel.assign(fitted.kernel[:, np.newaxis].astype(np.float32))
        self._last.bias.assign(np.array([fitted.bias], np.float32))

    def predict(self, images: np.ndarray, index: np.ndarray) -> Predictions:
        """As of any program."""
        if not len(index) or any(int(row) not in self._known for row in index):
            return super().predict(images, index)
        return Predictions(tf.sigmoid(self._last(self.features(index)))[:, 0].numpy(), None)

    def _kept_features(self, images: np.ndarray, rows: np.ndarray, folder: Path | None) -> np.ndarray:
        path = None if folder is None else folder / f"{self._features_digest(images, rows)}.npy"
        if path is not None and path.is_file():
            try:
                kept: np.ndarray = np.load(path)
            except (OSError, ValueError, EOFError):  # cut off or damaged: it is computed again
                kept = np.empty((0, 0))
            if kept.shape == (len(rows), self._last.kernel.shape[0]):
                return kept
        parts = [self._encode_step(channels(images[part])).numpy() for part in batches(rows, EVALUATION_BATCH)]
        features = np.concatenate(parts)
        if path is not None:
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, features)
        return features

    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        return self._encoder(self._three_channels(tf.cast(images, tf.float32)), training=False)

    def _features_digest(self, images: np.ndarray, rows: np.ndarray) -> str:
        digest = hashlib.sha256(
            f"{_VERSION} {tf.__version__} {keras.__version__} {self._key} {images.shape[1:]}".encode()
        )
        for part in batches(rows, EVALUATION_BATCH):
            digest.update(np.ascontiguousarray(images[part]).tobytes())
        return digest.hexdigest()

    def _weights_digest(self) -> str:
        """Of all that lies before the last layer: how it is built, input size and scaling included, and its weights."""
        digest = hashlib.sha256(re.sub(r'"seed": \d+', '"seed": null', self._encoder.to_json()).encode())
        for variable in self._encoder.weights:
            digest.update(variable.numpy().tobytes())
        return digest.hexdigest()


def fit_probe(
    program: ProbeProgram,
    spec: RunSpec,
    data: CellData,
    *,
    seed: int,
    sources: Iterable[np.ndarray],
    on_epoch: Callable[[EpochLog], None] = lambda _: None,
    folder: Path | None = None,
) -> FitResult:
    """Reset the program and leave it with the last layer that logistic regression finds.

    Args:
        program: Of the spec's `program_key()`.
        spec: What is trained.
        data: What it is trained on.
        seed: The cell's; without effect on an encoder that is pretrained.
        sources: As for `learn_features`; they hold all rows of `data`.
        on_epoch: Called once.
        folder: As for `learn_features`.

    Raises:
        TrainingError: A part is empty, there is no validation part, or `logistic_regression` has no result.
    """
    validation = data.validation
    if validation is None:
        raise TrainingError(
            f"the penalty of {spec.network} is chosen on the validation part, and there is none: a linear probe "
            "cannot be trained on all images. Set package.members to all instead of refit."
        )
    for name, index in (("training", data.train), ("validation", validation)):
        if not len(index):
            raise TrainingError(f"the {name} part of {spec.network} is empty: add images or change the folds.")
    started = time.monotonic()
    program.reset(spec, seed)
    # Features of weights that are drawn anew for each cell are of no use to another.
    program.learn_features(data.images, sources, folder if spec.training.weights != "random" else None)
    parts = [(program.features(index).astype(np.float64), data.labels[index]) for index in (data.train, validation)]
    fitted = logistic_regression(*parts[0], *parts[1])
    program.set_last_layer(fitted)
    logits = [features @ fitted.kernel + fitted.bias for features, _ in parts]
    losses = [cross_entropy(values, labels) for values, (_, labels) in zip(logits, parts, strict=True)]
    area = float(weighted_roc_auc(parts[1][1], logits[1], np.ones((1, len(validation))))[0])
    seconds = time.monotonic() - started
    log = EpochLog(1, 1, losses[0], losses[1], area, seconds)
    on_epoch(log)
    return FitResult([asdict(log)], 1, losses[1], seconds, {"inverse_penalty": fitted.inverse_penalty})


def program_of(spec: RunSpec, weights_folder: Path | None) -> Program:
    """The program that a spec is trained with.

    Raises:
        NetworkError: The specification cannot be built.
    """
    return (ProbeProgram if zoo.entry(spec.network).probe else Program)(spec, weights_folder)
