"""Single-task classifiers: a Keras application without its top, and the paper's head of 512, 64 and 1."""

from __future__ import annotations

from functools import partial

from bus_mlops.models.applications import build_application, of_width
from bus_mlops.models.blocks import Tensor, malignancy_head
from bus_mlops.models.framework import keras, layers
from bus_mlops.models.scaling import scale


def classifier(
    backbone: str, *, input_size: int, scaling: str, dropout: float, units_1: int, units_2: int, alpha: float = 1.0
) -> keras.Model:
    """A Keras application with the paper's head, 512 and 64 units unless set otherwise, all layers trainable.

    Input (B, S, S, 3) RGB 0-255; output {"malignancy": (B, 1)}, probability 0-1. `dropout` is the head's;
    EfficientNetB0 has more of its own, on whole blocks. `alpha` times the filters has MobileNet alone.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    base = build_application(of_width(backbone, alpha), scale(image, scaling, backbone))
    malignancy = classification_head(base.output, (units_1, units_2), dropout)
    return keras.Model(image, {"malignancy": malignancy}, name=backbone)


mobilenet = partial(classifier, "mobilenet")
efficientnetb0 = partial(classifier, "efficientnetb0")
densenet121 = partial(classifier, "densenet121")
resnet50 = partial(classifier, "resnet50")
vgg16 = partial(classifier, "vgg16")
xception = partial(classifier, "xception")
inceptionv3 = partial(classifier, "inceptionv3")
efficientnetv2s = partial(classifier, "efficientnetv2s")
efficientnetv2b0 = partial(classifier, "efficientnetv2b0")
convnexttiny = partial(classifier, "convnexttiny")


def classification_head(features: Tensor, units: tuple[int, int], dropout: float) -> Tensor:
    """Global average pool, Dense ReLU, dropout, Dense ReLU, one sigmoid: (B, h, w, c) -> (B, 1).

    The paper calls its protocol "no regularization"; every script that it released has this dropout.
    """
    pooled = layers.GlobalAveragePooling2D(name="class_pool")(features)
    return malignancy_head(pooled, units, (dropout, 0.0))
