"""Intensity scaling as layers inside the network, so that a saved model takes raw RGB of 0-255.

Only Keras's own layers and ops are used: a saved `.keras` file loads in safe mode without this package.
"""

from __future__ import annotations

import keras

from bus_mlops.errors import NetworkError

# Means (and standard deviations) of ImageNet's channels, as each application was pretrained with.
_CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)


def scale(image: keras.KerasTensor, scaling: str, backbone: str) -> keras.KerasTensor:
    """Scale (B, S, S, 3) RGB 0-255: `raw255` unchanged, `unit` 0-1, `imagenet` as `backbone` learnt.

    imagenet means x / 127.5 - 1 for MobileNet; BGR minus the channel means for ResNet50; (x / 255 - mean) /
    std for DenseNet121. Raises NetworkError for anything else.
    """
    if scaling == "raw255":
        return image
    if scaling == "unit":
        return keras.layers.Rescaling(1 / 255, name="scale_unit")(image)
    if scaling != "imagenet":
        raise NetworkError(f"scaling must be raw255, unit or imagenet but got {scaling!r}.")
    if backbone == "mobilenet":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_mobilenet")(image)
    if backbone == "resnet50":
        offset = [-mean for mean in _CAFFE_BGR_MEAN]
        bgr = keras.ops.flip(image, axis=-1)
        return keras.layers.Rescaling([1.0, 1.0, 1.0], offset=offset, name="scale_resnet50")(bgr)
    if backbone == "densenet121":
        factor = [1 / (255 * std) for std in _TORCH_STD]
        offset = [-mean / std for mean, std in zip(_TORCH_MEAN, _TORCH_STD, strict=True)]
        return keras.layers.Rescaling(factor, offset=offset, name="scale_densenet121")(image)
    raise NetworkError(f"no imagenet scaling is known for {backbone!r}; use raw255 or unit.")
