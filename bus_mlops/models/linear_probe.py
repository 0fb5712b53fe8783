"""Linear probes: a Keras application as it was pretrained, and one layer that logistic regression fills."""

from __future__ import annotations

from functools import partial

from bus_mlops.models.applications import build_application, of_width
from bus_mlops.models.blocks import malignancy_head
from bus_mlops.models.framework import keras, layers
from bus_mlops.models.scaling import scale


def linear_probe(backbone: str, *, input_size: int, scaling: str, dropout: float, alpha: float = 1.0) -> keras.Model:
    """A frozen Keras application, global average pool, one sigmoid.

    Input (B, S, S, 3) RGB 0-255; output {"malignancy": (B, 1)}, probability 0-1. Standardisation of the features is
    part of the last layer's weights, so that the network needs none. `dropout` has no effect: nothing is trained by
    steps. `alpha` times the filters has MobileNet alone.
    """
    del dropout
    image = keras.Input((input_size, input_size, 3), name="image")
    base = build_application(of_width(backbone, alpha), scale(image, scaling, backbone))
    for layer in base.layers:
        layer.trainable = False
    pooled = layers.GlobalAveragePooling2D(name="class_pool")(base.output)
    return keras.Model(image, {"malignancy": malignancy_head(pooled, (), ())}, name=f"linear_probe_{backbone}")


linear_probe_mobilenet = partial(linear_probe, "mobilenet")
linear_probe_efficientnetb0 = partial(linear_probe, "efficientnetb0")
linear_probe_densenet121 = partial(linear_probe, "densenet121")
linear_probe_resnet50 = partial(linear_probe, "resnet50")
linear_probe_vgg16 = partial(linear_probe, "vgg16")
linear_probe_xception = partial(linear_probe, "xception")
linear_probe_inceptionv3 = partial(linear_probe, "inceptionv3")
linear_probe_efficientnetv2s = partial(linear_probe, "efficientnetv2s")
linear_probe_efficientnetv2b0 = partial(linear_probe, "efficientnetv2b0")
linear_probe_convnexttiny = partial(linear_probe, "convnexttiny")
