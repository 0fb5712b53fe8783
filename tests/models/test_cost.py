"""Multiply-accumulates against TensorFlow's own count of floating point operations."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bus_mlops.models.cost import multiply_accumulates

LAYERS = {
    "conv": lambda: layers.Conv2D(5, (3, 2), padding="same", use_bias=False),
    "strided conv": lambda: layers.Conv2D(5, 3, strides=2, padding="valid", use_bias=False),
    "depthwise": lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),
    "separable": lambda: layers.SeparableConv2D(7, 3, depth_multiplier=2, use_bias=False),
    "dense": lambda: layers.Dense(4, use_bias=False),
}


def operations(model: keras.Model) -> int:
    """Floating point operations of one image; a multiply-accumulate is two of them."""
    function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:])))
    graph = convert_variables_to_constants_v2(function).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    return tf.compat.v1.profiler.profile(graph, options=options.build()).total_float_ops


@pytest.mark.parametrize("name", LAYERS)
def test_each_kind_of_layer_is_counted_as_tensorflow_does(name):
    image = keras.Input((12, 9, 6))
    x = layers.Flatten()(image) if name == "dense" else image
    model = keras.Model(image, LAYERS[name]()(x))
    assert 2 * multiply_accumulates(model) == operations(model)


def test_groups_see_their_own_channels_only():
    image = keras.Input((12, 9, 6))
    whole, grouped = (keras.Model(image, layers.Conv2D(6, 3, groups=groups)(image)) for groups in (1, 3))
    assert multiply_accumulates(whole) == 3 * multiply_accumulates(grouped) == 10 * 7 * 3 * 3 * 6 * 6


def test_a_transposed_convolution_costs_what_its_gradient_the_convolution_does():
    """From 6 x 5 x 3 to 12 x 10 x 4 with kernels of 2: the strided convolution back does the same products."""
    small, large = keras.Input((6, 5, 3)), keras.Input((12, 10, 4))
    up = keras.Model(small, layers.Conv2DTranspose(4, 2, strides=2)(small))
    down = keras.Model(large, layers.Conv2D(3, 2, strides=2)(large))
    assert multiply_accumulates(up) == multiply_accumulates(down) == 6 * 5 * 3 * 4 * 2 * 2


def test_what_the_custom_leaves_out_costs_nothing():
    image = keras.Input((8, 8, 4))
    x = layers.UpSampling2D(2)(layers.ReLU()(layers.BatchNormalization()(image)))
    assert multiply_accumulates(keras.Model(image, layers.GlobalAveragePooling2D()(x))) == 0


@pytest.mark.parametrize(
    "name",
    ["MobileNet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("DenseNet121", "ResNet50", "Xception"))],
)
def test_whole_networks_cost_what_tensorflow_counts(name):
    """Its count also has what the custom leaves out, biases, normalisation and activations: one to four percent."""
    size = 75 if name == "Xception" else 64
    model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(size, size, 3))
    assert 1 <= operations(model) / (2 * multiply_accumulates(model)) < 1.04
