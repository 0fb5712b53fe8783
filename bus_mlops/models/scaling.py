"""Intensity scaling as layers inside the network, so that a saved model takes raw RGB of 0-255.

Only Keras's own layers and ops are used: a saved `.keras` file loads in safe mode without this package.
"""

from __future__ import annotations

from bus_mlops.errors import NetworkError
from bus_mlops.models.applications import APPLICATIONS, IMAGENET_MEAN, IMAGENET_STD, Normalization
from bus_mlops.models.framework import keras

_CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)


def scale(image: keras.KerasTensor, scaling: str, backbone: str) -> keras.KerasTensor:
    """Scale (B, S, S, 3) RGB 0-255: `raw255` unchanged, `unit` 0-1, `imagenet` as `backbone` learnt.

    imagenet means x / 127.5 - 1 for MobileNet, Xception and InceptionV3; BGR minus the channel means for ResNet50
    and VGG16; (x / 255 - mean) / std for DenseNet121. EfficientNetB0, EfficientNetV2 and ConvNeXt begin with
    layers that scale by themselves, so that `imagenet` and `raw255` both feed them 0-255; `unit` feeds them 0-1, which
    they scale once more: an input without contrast, yet what the paper's released multitask code does.

    radimagenet means (BGR minus ImageNet's channel means) / 255 for every network, as in the released training scripts
    (github.com/BMEII-AI/RadImageNet, breast/breast_train.py: `imagenet_utils.preprocess_input`, then 1 / 255) whose
    Keras weights these are; the notebook for their PyTorch weights has 2 x / 255 - 1 instead.

    Raises:
        NetworkError: Another scaling, or `imagenet` without a backbone that has one.
    """
    if scaling == "raw255":
        return image
    if scaling == "unit":
        return keras.layers.Rescaling(1 / 255, name="scale_unit")(image)
    if scaling == "radimagenet":
        return _caffe(image, 1 / 255, "scale_radimagenet")
    if scaling != "imagenet":
        raise NetworkError(f"scaling must be raw255, unit, imagenet or radimagenet but got {scaling!r}.")
    if backbone not in APPLICATIONS:
        raise NetworkError(f"no imagenet scaling is known for {backbone!r}; use raw255 or unit.")
    name = f"scale_{backbone}"
    match APPLICATIONS[backbone].normalization:
        case Normalization.INSIDE:
            return image
        case Normalization.TF:
            return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=name)(image)
        case Normalization.CAFFE:
            return _caffe(image, 1.0, name)
        case Normalization.TORCH:
            factor = [1 / (255 * std) for std in IMAGENET_STD]
            offset = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
            return keras.layers.Rescaling(factor, offset=offset, name=name)(image)


def _caffe(image: keras.KerasTensor, factor: float, name: str) -> keras.KerasTensor:
    """BGR minus ImageNet's channel means, times a factor."""
    bgr = keras.ops.flip(image, axis=-1)
    offset = [-mean * factor for mean in _CAFFE_BGR_MEAN]
    return keras.layers.Rescaling([factor] * 3, offset=offset, name=name)(bgr)


def scale_untrained(image: keras.KerasTensor, scaled: keras.KerasTensor, scaling: str) -> keras.KerasTensor:
    """The image for layers that start from scratch beside a pretrained part, which gets `scaled`.

    With `imagenet` and `radimagenet` that is 0-1, since the normalisation of the pretrained part means nothing to
    them; else the same `scaled` image.
    """
    return scale(image, "unit", "") if scaling in ("imagenet", "radimagenet") else scaled
