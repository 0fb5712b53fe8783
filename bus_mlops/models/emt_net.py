"""EMT-Net (Shi et al., ISBI 2022): MobileNet with a light decoder that makes it look at the lesion.

Sourced: the MobileNet backbone (the benchmark paper), a light segmentation branch and a numerically stable
weighted loss (EMT-Net's abstract), about 5.1 million parameters (the benchmark's Table 3). No code and no full
text could be had, so everything else here is a reconstruction: many decoders and heads reach that count, and
these two are the most natural ones. Its row in Table 9 is not a strict replication.
"""

from __future__ import annotations

from bus_mlops.models.applications import build_application, of_width
from bus_mlops.models.blocks import Tensor, conv_norm_relu, conv_pair, join, malignancy_head, mask_head, transposed
from bus_mlops.models.framework import keras, layers
from bus_mlops.models.scaling import scale, scale_untrained

# At strides 16, 8, 4 and 2; the last up block, at the size of the image, gets the image itself.
SKIPS = ("conv_pw_11_relu", "conv_pw_5_relu", "conv_pw_3_relu", "conv_pw_1_relu")
_FILTERS = (128, 64, 32, 16, 8)


def emt_net(
    *, input_size: int, scaling: str, dropout: float, decoder: str, units_1: int, units_2: int, alpha: float
) -> keras.Model:
    """Build EMT-Net: 5,108,650 parameters with the decoder `upsampling`, 5,107,146 with `transposed`.

    Input (B, S, S, 3) RGB 0-255, S a multiple of 32; output {"malignancy": (B, 1), "mask": (B, S, S, 1)},
    probabilities 0-1. `upsampling` doubles without weights, then narrows with 1x1, and has the benchmark's
    head of 512 and 64; `transposed` doubles with transposed convolutions and has a head of 128, unless
    `units_1` and `units_2` are set otherwise. `alpha` scales MobileNet's filters, never the decoder's.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    scaled = scale(image, scaling, "mobilenet")
    base = build_application(of_width("mobilenet", alpha), scaled)
    x = base.output
    skips = [*(base.get_layer(name).output for name in SKIPS), scale_untrained(image, scaled, scaling)]
    for number, (n, skip) in enumerate(zip(_FILTERS, skips, strict=True), start=1):
        x = _double(x, n, decoder, f"up{number}")
        x = conv_pair(join(f"up{number}_join", x, skip), n, f"up{number}")
    pooled = layers.GlobalAveragePooling2D(name="class_pool")(base.output)
    outputs = {"malignancy": malignancy_head(pooled, (units_1, units_2), (dropout, 0.0)), "mask": mask_head(x)}
    return keras.Model(image, outputs, name="emt_net")


def _double(x: Tensor, filters: int, decoder: str, name: str) -> Tensor:
    if decoder == "transposed":
        return transposed(x, filters, f"{name}_up")
    x = layers.UpSampling2D(2, name=f"{name}_up")(x)
    return conv_norm_relu(x, filters, 1, f"{name}_narrow")
