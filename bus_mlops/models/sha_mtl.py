"""SHA-MTL (Zhang et al., 2021): DenseNet121 and a decoder with soft attention, hard attention on the classes.

Sourced: a dense encoder and an upsampling decoder joined by attention-gated units, a mask and a binary class
(SHA-MTL's abstract); DenseNet121 and plain cross-entropy (the benchmark paper); 8.2 million parameters (its
Table 3). No code and no full text could be had: the gates are those of Attention U-Net, the widths fit the
count, and the rest is a reconstruction too. What "hard attention" is could not be verified; both readings are
here. Its row in Table 9 is not a strict replication.
"""

from __future__ import annotations

from bus_mlops.models.applications import build_application
from bus_mlops.models.blocks import Tensor, conv_norm_relu, conv_pair, join, malignancy_head, mask_head
from bus_mlops.models.framework import keras, layers, ops
from bus_mlops.models.scaling import scale

# At strides 16, 8, 4 and 2; the last up block has no skip.
SKIPS = ("pool4_relu", "pool3_relu", "pool2_relu", "conv1_relu")
_FILTERS = (128, 64, 32, 16, 8)
_STRIDE = 32
# Keeps the mean over an empty mask at zero.
_EPSILON = 1e-6


def sha_mtl(*, input_size: int, scaling: str, dropout: float, hard_attention: str, units_1: int) -> keras.Model:
    """Build SHA-MTL: 8,274,790 parameters with `mask_gate`, 8,209,254 with `supervision`.

    Input (B, S, S, 3) RGB 0-255, S a multiple of 32; output {"malignancy": (B, 1), "mask": (B, S, S, 1)},
    probabilities 0-1. With `mask_gate` the class head sees, beside the mean of the features, their mean over
    the predicted lesion (probability of 0.5 or more; no gradient flows back through it); with `supervision`
    the masks of the training are the hard attention, and the head sees the plain mean only.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    base = build_application("densenet121", scale(image, scaling, "densenet121"))
    x = base.output
    skips: list[Tensor | None] = [*(base.get_layer(name).output for name in SKIPS), None]
    for number, (n, skip) in enumerate(zip(_FILTERS, skips, strict=True), start=1):
        x = _up(x, skip, n, f"up{number}")
    mask = mask_head(x)
    pooled = layers.GlobalAveragePooling2D(name="class_pool")(base.output)
    if hard_attention == "mask_gate":
        pooled = join("class_join", pooled, masked_mean(base.output, mask))
    outputs = {"malignancy": malignancy_head(pooled, (units_1,), (dropout,)), "mask": mask}
    return keras.Model(image, outputs, name="sha_mtl")


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """The mean of features (B, h, w, c) over a mask (B, 32 h, 32 w, 1) of probabilities 0-1: (B, c).

    The mask is cut at 0.5 and averaged over each cell of the features. An empty mask gives zeros.
    """
    hard = ops.cast(ops.stop_gradient(mask) >= 0.5, "float32")
    share = layers.AveragePooling2D(_STRIDE, name="gate_pool")(hard)
    total = ops.sum(features * share, axis=(1, 2))
    return total / (ops.sum(share, axis=(1, 2)) + _EPSILON)


def _up(x: Tensor, skip: Tensor | None, filters: int, name: str) -> Tensor:
    x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_up")(x)
    x = conv_norm_relu(x, filters, 1, f"{name}_narrow")
    if skip is not None:
        x = join(f"{name}_join", x, _attention_gate(skip, x, filters, f"{name}_gate"))
    return conv_pair(x, filters, name)


def _attention_gate(skip: Tensor, signal: Tensor, filters: int, name: str) -> Tensor:
    """Soft attention: the skip, weighted per pixel by how well it agrees with the decoder's signal."""
    theta = layers.Conv2D(filters, 1, name=f"{name}_theta_conv")(skip)
    theta = layers.BatchNormalization(name=f"{name}_theta_bn")(theta)
    phi = layers.Conv2D(filters, 1, name=f"{name}_phi_conv")(signal)
    phi = layers.BatchNormalization(name=f"{name}_phi_bn")(phi)
    psi = layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([theta, phi]))
    psi = layers.Conv2D(1, 1, name=f"{name}_psi_conv")(psi)
    psi = layers.BatchNormalization(name=f"{name}_psi_bn")(psi)
    psi = layers.Activation("sigmoid", name=f"{name}_psi")(psi)
    weighted = layers.Multiply(name=f"{name}_multiply")([skip, psi])
    return conv_norm_relu(weighted, filters, 1, f"{name}_out")
