"""Generic multitask networks (Table 8): a classifier, and a decoder from its stride of 16 to a mask.

DenseNet121's skips are the released code's. Its four other files repeat DenseNet121's layer names and cannot run:
their skips are ours, at the same strides. For all but VGG16 the last stage of the backbone feeds the classifier
only. Without the decoder it is the plain classifier of `classifiers.py`, Table 8's single-task network.
"""

from __future__ import annotations

from functools import partial

from bus_mlops.models.applications import build_application, of_width
from bus_mlops.models.blocks import Tensor, conv_pair, join, mask_head, transposed
from bus_mlops.models.classifiers import classification_head
from bus_mlops.models.framework import keras, layers
from bus_mlops.models.scaling import scale, scale_untrained

# Where the decoder starts, at stride 16, and what joins it at strides 8, 4 and 2; at 1 the image does.
SKIPS = {
    "mobilenet": ("conv_pw_11_relu", "conv_pw_5_relu", "conv_pw_3_relu", "conv_pw_1_relu"),
    "efficientnetb0": (
        "block6a_expand_activation",
        "block4a_expand_activation",
        "block3a_expand_activation",
        "block2a_expand_activation",
    ),
    "densenet121": ("pool4_relu", "pool3_relu", "pool2_relu", "conv1_relu"),
    "resnet50": ("conv4_block6_out", "conv3_block4_out", "conv2_block3_out", "conv1_relu"),
    "vgg16": ("block5_conv3", "block4_conv3", "block3_conv3", "block2_conv2"),
}
_FILTERS = (128, 64, 32, 16)


def generic_multitask(
    backbone: str,
    *,
    input_size: int,
    scaling: str,
    dropout: float,
    upsampling: str,
    units_1: int,
    units_2: int,
    alpha: float = 1.0,
) -> keras.Model:
    """A classifier with a segmentation decoder, all layers trainable.

    Input (B, S, S, 3) RGB 0-255, S a multiple of 16; output {"malignancy": (B, 1), "mask": (B, S, S, 1)},
    probabilities 0-1. `upsampling` is `transposed` convolution, as released, or `repeat`, which has no parameters.
    `alpha` scales the filters of the backbone, never the decoder's; MobileNet alone has it.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    scaled = scale(image, scaling, backbone)
    base = build_application(of_width(backbone, alpha), scaled)
    start, *skips = [base.get_layer(name).output for name in SKIPS[backbone]]
    skips.append(scale_untrained(image, scaled, scaling))
    outputs = {
        "malignancy": classification_head(base.output, (units_1, units_2), dropout),
        "mask": _decoder(start, skips, upsampling),
    }
    return keras.Model(image, outputs, name=f"{backbone}_multitask")


mobilenet_multitask = partial(generic_multitask, "mobilenet")
efficientnetb0_multitask = partial(generic_multitask, "efficientnetb0")
densenet121_multitask = partial(generic_multitask, "densenet121")
resnet50_multitask = partial(generic_multitask, "resnet50")
vgg16_multitask = partial(generic_multitask, "vgg16")


def _decoder(x: Tensor, skips: list[Tensor], upsampling: str) -> Tensor:
    """Four blocks that double the size, join a skip and convolve twice; then one sigmoid per pixel."""
    for number, (n, skip) in enumerate(zip(_FILTERS, skips, strict=True), start=1):
        name = f"up{number}"
        x = layers.UpSampling2D(2, name=name)(x) if upsampling == "repeat" else transposed(x, n, name)
        x = conv_pair(join(f"{name}_join", x, skip), n, name)
    return mask_head(x)
