"""Small parts that the multitask networks share: convolution blocks and the two heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from bus_mlops.models.framework import keras, layers

Tensor: TypeAlias = keras.KerasTensor


def conv_norm_relu(x: Tensor, filters: int, kernel: int, name: str) -> Tensor:
    """Convolution that keeps the size, batch normalisation, ReLU: (B, h, w, c) -> (B, h, w, filters)."""
    x = layers.Conv2D(filters, kernel, padding="same", name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def conv_pair(x: Tensor, filters: int, name: str) -> Tensor:
    """Twice a 3x3 convolution with batch normalisation and ReLU."""
    return conv_norm_relu(conv_norm_relu(x, filters, 3, f"{name}_1"), filters, 3, f"{name}_2")


def join(name: str, *parts: Tensor) -> Tensor:
    """The parts behind each other along the last axis."""
    return layers.Concatenate(name=name)(list(parts))


def transposed(x: Tensor, filters: int, name: str) -> Tensor:
    """Transposed 2x2 convolution of stride 2, no activation: twice the height and width."""
    return layers.Conv2DTranspose(filters, 2, strides=2, name=name)(x)


def mask_head(x: Tensor, kernel: int = 1) -> Tensor:
    """One sigmoid a pixel, (B, h, w, c) -> (B, h, w, 1); "mask_logit" holds the values before it."""
    x = layers.Conv2D(1, kernel, padding="same", name="mask_logit")(x)
    return layers.Activation("sigmoid", name="mask")(x)


def malignancy_head(x: Tensor, units: Sequence[int], dropouts: Sequence[float]) -> Tensor:
    """Dense layers with ReLU, each followed by its dropout unless that is 0, then one sigmoid: (B, n) -> (B, 1).

    A layer of 0 units is left out. "malignancy_logit" holds the value before the sigmoid.
    """
    for number, (n, dropout) in enumerate(zip(units, dropouts, strict=True), start=1):
        if not n:
            continue
        x = layers.Dense(n, activation="relu", name=f"class_dense_{number}")(x)
        if dropout:
            x = layers.Dropout(dropout, name="class_dropout" if number == 1 else f"class_dropout_{number}")(x)
    x = layers.Dense(1, name="malignancy_logit")(x)
    return layers.Activation("sigmoid", name="malignancy")(x)
