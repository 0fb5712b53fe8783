"""The pretrained parts: networks of keras.applications without their tops, their weight files, their normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from bus_mlops.errors import NetworkError

if TYPE_CHECKING:
    from bus_mlops.models.framework import keras

# Means and standard deviations of ImageNet's channels (RGB, images of 0-1).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalization(StrEnum):
    """What an application's ImageNet weights were trained on, by Keras's names of it.

    `tf`: RGB, -1 to 1. `caffe`: BGR, 0-255 minus the channel means. `torch`: RGB of 0-1, minus the channel means,
    over the standard deviations. `inside`: the same, computed by the application's own first layers from 0-255.
    """

    TF = "tf"
    CAFFE = "caffe"
    TORCH = "torch"
    INSIDE = "inside"


@dataclass(frozen=True)
class Application:
    """One network of keras.applications.

    Attributes:
        builder: Its name there.
        files: The names of a file with its ImageNet weights without top: the one that Keras downloads, and the same
            in Keras 3's own format.
        normalization: What these weights were trained on.
        arguments: What else the builder is called with.
        radimagenet: The name of the file with its RadImageNet weights without top, as released; empty without one.
        rebuilt: It is built by a module of ours instead, with the same layers and weights.
    """

    builder: str
    files: tuple[str, str]
    normalization: Normalization
    arguments: Mapping[str, float] = field(default_factory=dict)
    radimagenet: str = ""
    rebuilt: bool = False


# The widths of MobileNet that have ImageNet weights, its option `alpha`; how each is written in names, by Keras too.
MOBILENET_WIDTHS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}


def of_width(name: str, alpha: float) -> str:
    """What the application is called that has `alpha` times the filters of another.

    >>> of_width("mobilenet", 1), of_width("mobilenet", 0.25)
    ('mobilenet', 'mobilenet_0_25')
    """
    return name if alpha == 1 else f"{name}_{_in_names(alpha)}"


def _in_names(alpha: float) -> str:
    return f"{float(alpha)}".replace(".", "_")


def _mobilenet(alpha: float) -> Application:
    """Of its weights for four input sizes those of 224 serve every size, so that sizes differ in nothing else."""
    return Application(
        "MobileNet",
        (f"mobilenet_{MOBILENET_WIDTHS[alpha]}_224_tf_no_top.h5", f"mobilenet_{_in_names(alpha)}_224_notop.weights.h5"),
        Normalization.TF,
        {} if alpha == 1 else {"alpha": alpha},
    )


APPLICATIONS = {
    **{of_width("mobilenet", alpha): _mobilenet(alpha) for alpha in MOBILENET_WIDTHS},
    "efficientnetb0": Application(
        "EfficientNetB0",
        ("efficientnetb0_notop.h5", "efficientnetb0_notop.weights.h5"),
        Normalization.INSIDE,
    ),
    "densenet121": Application(
        "DenseNet121",
        ("densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", "densenet121_notop.weights.h5"),
        Normalization.TORCH,
        radimagenet="RadImageNet-DenseNet121_notop.h5",
    ),
    "resnet50": Application(
        "ResNet50",
        ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "resnet50_notop.weights.h5"),
        Normalization.CAFFE,
        radimagenet="RadImageNet-ResNet50_notop.h5",
    ),
    "vgg16": Application(
        "VGG16",
        ("vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "vgg16_notop.weights.h5"),
        Normalization.CAFFE,
    ),
    "xception": Application(
        "Xception",
        ("xception_weights_tf_dim_ordering_tf_kernels_notop.h5", "xception_notop.weights.h5"),
        Normalization.TF,
    ),
    "inceptionv3": Application(
        "InceptionV3",
        ("inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", "inceptionv3_notop.weights.h5"),
        Normalization.TF,
        radimagenet="RadImageNet-InceptionV3_notop.h5",
    ),
    "convnexttiny": Application(
        "ConvNeXtTiny",
        ("convnext_tiny_notop.h5", "convnexttiny_notop.weights.h5"),
        Normalization.INSIDE,
        rebuilt=True,
    ),
    "efficientnetv2b0": Application(
        "EfficientNetV2B0",
        ("efficientnetv2-b0_notop.h5", "efficientnetv2b0_notop.weights.h5"),
        Normalization.INSIDE,
    ),
    "efficientnetv2s": Application(
        "EfficientNetV2S",
        ("efficientnetv2-s_notop.h5", "efficientnetv2s_notop.weights.h5"),
        Normalization.INSIDE,
    ),
}


def application(name: str) -> Application:
    """The application of that name.

    Raises:
        NetworkError: There is none; lists the names.
    """
    try:
        return APPLICATIONS[name]
    except KeyError:
        raise NetworkError(f"unknown application {name!r}; known are {', '.join(APPLICATIONS)}.") from None


def build_application(name: str, image: keras.KerasTensor) -> keras.Model:
    """The application without top, with random weights and its own layer names.

    Where it normalises inside, that normalisation is ImageNet's whatever the weights.

    Args:
        name: As in `application`.
        image: Scaled already, (B, S, S, 3).

    Raises:
        NetworkError: The name is unknown.
    """
    from bus_mlops.models.framework import keras

    if application(name).rebuilt:
        from bus_mlops.models.convnext import convnext_tiny

        return convnext_tiny(image)
    model = keras_application(name, image)
    for layer in model.layers:
        # Others than EfficientNetB0 have their numbers from Keras.
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            _normalize_as_imagenet(layer)
    return model


def keras_application(name: str, image: keras.KerasTensor) -> keras.Model:
    """As `build_application`, but as keras.applications builds it: what a file of weights is read into.

    Raises:
        NetworkError: The name is unknown.
    """
    from bus_mlops.models.framework import keras

    found = application(name)
    builder = getattr(keras.applications, found.builder)
    model: keras.Model = builder(include_top=False, weights=None, input_tensor=image, **found.arguments)
    return model


def _normalize_as_imagenet(layer: keras.layers.Normalization) -> None:
    """Make it (x - mean) / std, which it keeps for ever: nothing trains it.

    Keras's weight file holds the standard deviations where this layer wants variances, so that Keras adds one more
    division, but only if it downloads the weights itself. Nothing of that is needed with the right variances.
    """
    import numpy as np

    mean = np.asarray(IMAGENET_MEAN, np.float32)
    variance = np.square(np.asarray(IMAGENET_STD, np.float32))
    layer.load_own_variables({"0": mean, "1": variance, "2": np.zeros((), np.int32)})
