"""Vakanski and Xian (MLSP 2021): a U-shaped network from scratch whose deepest features give the class.

`published` is the topology of the authors' own MIT-licensed code, layer by layer, but for one sigmoid where
theirs has two logits. It has 7.9 million parameters; the benchmark's Table 3 says 27.3 million. `table3` is a
reconstruction that reaches that size with VGG16's plan and the benchmark paper's account of the decoder (four
blocks of upsampling and two 3x3 convolutions); hundreds of other layouts do so too, so it is a fit, not a
finding.
"""

from __future__ import annotations

from dataclasses import dataclass

from bus_mlops.models.blocks import Tensor, conv_norm_relu, join, malignancy_head, mask_head, transposed
from bus_mlops.models.framework import keras, layers
from bus_mlops.models.scaling import scale


@dataclass(frozen=True)
class _Plan:
    """Filters and convolutions of the five blocks, how the decoder doubles, the mask's kernel."""

    filters: tuple[int, int, int, int, int]
    convolutions: tuple[int, int, int, int, int]
    learnt_upsampling: bool
    mask_kernel: int


_PLANS = {
    # The fourth convolution of the last block is the bridge.
    "table3": _Plan((64, 128, 256, 512, 512), (2, 2, 3, 3, 4), False, 1),
    "published": _Plan((32, 64, 128, 256, 512), (2, 2, 2, 2, 2), True, 3),
}


def vakanski(
    *, input_size: int, scaling: str, dropout: float, topology: str, units_1: int, units_2: int
) -> keras.Model:
    """Build the network: 27,314,626 parameters as `table3`, 7,919,970 as `published`.

    Input (B, S, S, 3) RGB 0-255, S a multiple of 16; output {"malignancy": (B, 1), "mask": (B, S, S, 1)},
    probabilities 0-1. `dropout` follows both dense layers of the class head. Nothing is pretrained.
    """
    plan = _PLANS[topology]
    image = keras.Input((input_size, input_size, 3), name="image")
    x: Tensor = scale(image, scaling, "")
    skips = []
    for number, (n, count) in enumerate(zip(plan.filters, plan.convolutions, strict=True), start=1):
        if number > 1:
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"enc{number}_pool")(x)
        x = _convolutions(x, n, count, f"enc{number}")
    pooled = layers.GlobalAveragePooling2D(name="class_pool")(x)
    for number, n in zip((4, 3, 2, 1), reversed(plan.filters[:4]), strict=True):
        name = f"up{number}"
        doubled = (
            transposed(x, n, f"{name}_up") if plan.learnt_upsampling else layers.UpSampling2D(2, name=f"{name}_up")(x)
        )
        x = _convolutions(join(f"{name}_join", doubled, skips.pop()), n, 2, name)
    outputs = {
        "malignancy": malignancy_head(pooled, (units_1, units_2), (dropout, dropout)),
        "mask": mask_head(x, plan.mask_kernel),
    }
    return keras.Model(image, outputs, name="vakanski")


def _convolutions(x: Tensor, filters: int, count: int, name: str) -> Tensor:
    for number in range(1, count + 1):
        x = conv_norm_relu(x, filters, 3, f"{name}_{number}")
    return x
