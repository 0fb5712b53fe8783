"""ConvNeXtTiny as keras.applications has it, of plain layers only: no model inside the model, no layer of its own.

Keras's own holds models as layers, whose weights could not be reset between cells, a layer whose variables are named by
counting, and two operations that cannot be exported to ONNX. The function and the weights are the same
(`take_weights`), and but for these layers the names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from bus_mlops.models.blocks import Tensor
from bus_mlops.models.framework import keras, layers, ops

# Blocks and channels of the four stages: Liu et al., "A ConvNet for the 2020s", 2022, section 3.
_BLOCKS = (3, 3, 9, 3)
_CHANNELS = (96, 192, 384, 768)
_SCALE = 1e-6
_NAME = "convnext_tiny"
# What keras.applications calls by counting.
_LAST = f"{_NAME}_layernorm"


def convnext_tiny(image: Tensor) -> keras.Model:
    """ConvNeXtTiny without top for images of 0-255 that are scaled already, (B, S, S, 3); S is 32 or more.

    Its first layer normalises as ImageNet does; its last features, (B, S / 32, S / 32, 768), are normalised.
    """
    mean, deviation = (255 * np.array(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = layers.Normalization(
        mean=mean.tolist(), variance=np.square(deviation).tolist(), name=f"{_NAME}_prestem_normalization"
    )(image)
    x = layers.Conv2D(_CHANNELS[0], 4, strides=4, name=f"{_NAME}_stem_conv")(x)
    x = _normalized(x, f"{_NAME}_stem_layernorm")
    for stage, (blocks, channels) in enumerate(zip(_BLOCKS, _CHANNELS, strict=True)):
        if stage:
            x = _normalized(x, f"{_NAME}_downsampling_layernorm_{stage - 1}")
            x = layers.Conv2D(channels, 2, strides=2, name=f"{_NAME}_downsampling_conv_{stage - 1}")(x)
        for block in range(blocks):
            x = _block(x, channels, f"{_NAME}_stage_{stage}_block_{block}")
    source = keras.utils.get_source_inputs(image)[0]
    return keras.Model(source, _normalized(x, _LAST), name=_NAME)


def take_weights(ours: keras.Model, theirs: keras.Model) -> None:
    """Give `convnext_tiny` the weights of keras.applications.ConvNeXtTiny without top.

    Raises:
        ValueError: They are of another network.
    """
    named = list(_plain_layers(theirs))
    found = {layer.name: layer for layer in named if layer.weights}
    found[_LAST] = found.pop(named[-1].name)
    wanted = [layer for layer in ours.layers if layer.weights]
    if {layer.name for layer in wanted} != set(found):
        raise ValueError(f"{theirs.name} has not the layers of {ours.name}")
    for layer in wanted:
        values = found[layer.name].get_weights()
        if isinstance(layer, layers.DepthwiseConv2D):  # a convolution in as many groups as channels, which is no other
            values[0] = values[0].swapaxes(2, 3)
        layer.set_weights(values)


def _plain_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a model, those of models among them in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _plain_layers(layer)
        else:
            yield layer


def _normalized(x: Tensor, name: str) -> Tensor:
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _block(x: Tensor, channels: int, name: str) -> Tensor:
    """Depthwise 7x7, layer normalisation, four times the channels and back, scaled by a factor a channel; residual."""
    y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise_conv")(x)
    y = _normalized(y, f"{name}_layernorm")
    y = layers.Dense(4 * channels, name=f"{name}_pointwise_conv_1")(y)
    y = 0.5 * y * (1 + ops.erf(y * math.sqrt(0.5)))  # GELU; TensorFlow's own cannot be exported
    y = layers.Dense(channels, name=f"{name}_pointwise_conv_2")(y)
    y = layers.EinsumDense(
        "bhwc,c->bhwc",
        output_shape=tuple(y.shape[1:]),
        kernel_initializer=keras.initializers.Constant(_SCALE),
        name=f"{name}_layer_scale",
    )(y)
    return layers.Add(name=f"{name}_add")([x, y])
