"""Single-task classifiers: a Keras application without its top, and the paper's head of 512, 64 and 1."""

from __future__ import annotations

import keras
from keras import layers

from bus_mlops.models.scaling import scale


def mobilenet(*, input_size: int, scaling: str, dropout: float) -> keras.Model:
    """MobileNet 1.0 with the paper's head: 3,786,561 parameters, all trainable but the batch statistics.

    Input (B, S, S, 3) RGB 0-255; output {"malignancy": (B, 1)}, probability 0-1.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    base = keras.applications.MobileNet(
        include_top=False, weights=None, input_tensor=scale(image, scaling, "mobilenet")
    )
    malignancy = classification_head(base.output, (512, 64), dropout)
    return keras.Model(image, {"malignancy": malignancy}, name="mobilenet")


def classification_head(features: keras.KerasTensor, units: tuple[int, int], dropout: float) -> keras.KerasTensor:
    """Global average pool, Dense ReLU, dropout, Dense ReLU, one sigmoid: (B, h, w, c) -> (B, 1).

    The paper calls its protocol "no regularization"; every script that it released has this dropout.
    """
    x = layers.GlobalAveragePooling2D(name="class_pool")(features)
    x = layers.Dense(units[0], activation="relu", name="class_dense_1")(x)
    x = layers.Dropout(dropout, name="class_dropout")(x)
    x = layers.Dense(units[1], activation="relu", name="class_dense_2")(x)
    x = layers.Dense(1, name="malignancy_logit")(x)
    return layers.Activation("sigmoid", name="malignancy")(x)
