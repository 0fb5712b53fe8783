"""What one image costs: the multiply-accumulates of a network's convolutions and dense layers."""

from __future__ import annotations

import math

from bus_mlops.models.framework import keras, layers


def multiply_accumulates(model: keras.Model) -> int:
    """Multiply-accumulates of one forward pass of one image; 10^9 of them are one GMAC.

    Counted are dense layers and all kinds of 2-D convolution; biases, normalisation, activations, pooling and
    resizing are not, as is the custom. The model's input size must be fixed.

    >>> image = keras.Input((8, 8, 3))
    >>> multiply_accumulates(keras.Model(image, layers.Conv2D(4, 3, padding="same")(image)))
    6912
    """
    return sum(_of(layer) for layer in model.layers)


def _of(layer: keras.Layer) -> int:
    if isinstance(layer, layers.SeparableConv2D):
        channels = int(layer.input.shape[-1] * layer.depth_multiplier)
        return _positions(layer.output) * channels * int(math.prod(layer.kernel_size) + layer.filters)
    if isinstance(layer, layers.Conv2DTranspose):  # every input pixel is spread over a kernel of outputs
        return _positions(layer.input) * _weights(layer)
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        return _positions(layer.output) * _weights(layer)
    if isinstance(layer, layers.Dense):  # of a vector, or of each pixel
        return int(math.prod(layer.input.shape[1:-1])) * _weights(layer)
    return 0


def _weights(layer: keras.Layer) -> int:
    return math.prod(layer.kernel.shape)


def _positions(tensor: keras.KerasTensor) -> int:
    return math.prod(tensor.shape[1:3])
