"""MT-ESTAN: a pretrained and the ESTAN encoder side by side, one decoder for the mask, one class head.

Layer by layer as the paper describes and its released code builds it: 55,980,162 parameters at width 1 with
the ResNet50 encoder. Unless said otherwise convolutions keep the size, have a ReLU, and batch normalisation
follows the ReLU; transposed convolutions have no activation.
"""

from __future__ import annotations

from dataclasses import dataclass

from bus_mlops.models.applications import build_application, of_width
from bus_mlops.models.blocks import Tensor, join, malignancy_head, mask_head, transposed
from bus_mlops.models.estan import conv, estan_encoder
from bus_mlops.models.framework import keras, layers
from bus_mlops.models.scaling import scale, scale_untrained
from bus_mlops.models.widths import filters


@dataclass(frozen=True)
class Taps:
    """Two layers of an encoder at each stride of 2, 4, 8, 16 and 32: one early, one late in the stage."""

    early: tuple[str, str, str, str, str]
    late: tuple[str, str, str, str, str]


# ResNet50's taps are the released code's. The others are ours: the same strides, the early tap in the stage's
# first block and before its activation, the late tap its last feature map.
TAPS = {
    "resnet50": Taps(
        ("conv1_conv", "conv2_block1_1_bn", "conv3_block1_1_bn", "conv4_block1_1_bn", "conv5_block1_1_bn"),
        ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    ),
    "mobilenet": Taps(
        ("conv1", "conv_pw_2_bn", "conv_pw_4_bn", "conv_pw_6_bn", "conv_pw_12_bn"),
        ("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
    ),
    "densenet121": Taps(
        (
            "conv1_conv",
            "conv2_block1_concat",
            "conv3_block1_concat",
            "conv4_block1_concat",
            "conv5_block1_concat",
        ),
        ("conv1_relu", "pool2_relu", "pool3_relu", "pool4_relu", "relu"),
    ),
}


def mt_estan(
    *,
    input_size: int,
    scaling: str,
    dropout: float,
    encoder: str,
    alpha: float,
    width: float,
    units_1: int,
    units_2: int,
) -> keras.Model:
    """Build MT-ESTAN.

    Input (B, S, S, 3) RGB 0-255, S a multiple of 32; output {"malignancy": (B, 1), "mask": (B, S, S, 1)},
    probabilities 0-1. `width` scales the filters of the ESTAN encoder, the bridge, the decoder and, unless
    they are set, the units of the class head, never the pretrained encoder, which as a MobileNet has `alpha` times
    its filters. With `imagenet` scaling the
    pretrained encoder gets its own normalisation and ESTAN, which starts from scratch, 0-1.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    scaled = scale(image, scaling, encoder)
    base = build_application(of_width(encoder, alpha), scaled)
    early = [base.get_layer(name).output for name in TAPS[encoder].early]
    late = [base.get_layer(name).output for name in TAPS[encoder].late]
    estan = estan_encoder(scale_untrained(image, scaled, scaling), width)

    bridge = transposed(join("bridge_in", late[4], early[4]), filters(512, width), "bridge_up")
    fused = join("bridge", join("bridge_estan", bridge, estan[4]), late[3])
    pooled = layers.GlobalAveragePooling2D(name="class_pool")(fused)
    outputs = {
        "malignancy": malignancy_head(pooled, (units_1, units_2), (dropout, 0.0)),
        "mask": _decoder(fused, early, late, estan, width),
    }
    return keras.Model(image, outputs, name="mt_estan")


def _decoder(fused: Tensor, early: list[Tensor], late: list[Tensor], estan: list[Tensor], width: float) -> Tensor:
    """Four up blocks from stride 16 to 1, then one sigmoid per pixel.

    The encoder's stages run at half of ESTAN's resolution: its late tap joins before the upsampling, its
    early tap after the first convolution, ESTAN's output after the upsampling.
    """
    x = fused
    for number, full in enumerate((256, 128, 64, 32), start=1):
        n, stage, name = filters(full, width), 4 - number, f"up{number}"
        if number > 1:
            x = join(f"{name}_late", x, late[stage])
        x = conv(x, n, 3, f"{name}_a")
        x = transposed(join(f"{name}_early", x, early[stage]), n, f"{name}_up")
        x = join(f"{name}_estan", x, estan[stage])
        x = conv(x, n, 5 if number == 4 else 1, f"{name}_b")
        if number == 4:  # the last block sees the encoder's first convolution a second time, upsampled
            x = join("up4_skip", x, transposed(early[0], n, "up4_skip_up"))
        x = conv(x, n, 3, f"{name}_c")
    return mask_head(x)
