"""MT-ESTAN: a pretrained and the ESTAN encoder side by side, one decoder for the mask, one class head.

Layer by layer as the paper describes and its released code builds it: 55,980,162 parameters at width 1 with
the ResNet50 encoder. Unless said otherwise convolutions keep the size, have a ReLU, and batch normalisation
follows the ReLU; transposed convolutions have no activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import keras
from keras import layers

from bus_mlops.models.classifiers import classification_head
from bus_mlops.models.scaling import scale

Tensor: TypeAlias = keras.KerasTensor


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
_APPLICATIONS = {
    "resnet50": keras.applications.ResNet50,
    "mobilenet": keras.applications.MobileNet,
    "densenet121": keras.applications.DenseNet121,
}


def mt_estan(*, input_size: int, scaling: str, dropout: float, encoder: str, width: float) -> keras.Model:
    """Build MT-ESTAN.

    Input (B, S, S, 3) RGB 0-255, S a multiple of 32; output {"malignancy": (B, 1), "mask": (B, S, S, 1)},
    probabilities 0-1. `width` scales the filters of the ESTAN encoder, the bridge, the decoder and the dense
    layers of the class head, never the pretrained encoder. With `imagenet` scaling the pretrained encoder
    gets its own normalisation and ESTAN, which starts from scratch, 0-1.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    scaled = scale(image, scaling, encoder)
    base = _APPLICATIONS[encoder](include_top=False, weights=None, input_tensor=scaled)
    early = [base.get_layer(name).output for name in TAPS[encoder].early]
    late = [base.get_layer(name).output for name in TAPS[encoder].late]
    estan = _estan_encoder(scale(image, "unit", encoder) if scaling == "imagenet" else scaled, width)

    bridge = _up(_join("bridge_in", late[4], early[4]), filters(512, width), "bridge_up")
    fused = _join("bridge", _join("bridge_estan", bridge, estan[4]), late[3])
    units = (filters(512, width), filters(128, width))
    outputs = {
        "malignancy": classification_head(fused, units, dropout),
        "mask": _decoder(fused, early, late, estan, width),
    }
    return keras.Model(image, outputs, name="mt_estan")


def filters(at_full_width: int, width: float) -> int:
    """The number of filters at a width: rounded to a multiple of 4, and 4 at least.

    >>> filters(32, 0.25), filters(512, 0.3), filters(32, 0.0625)
    (8, 152, 4)
    """
    return max(4, 4 * int(at_full_width * width / 4 + 0.5))


def _conv(x: Tensor, n: int, kernel: int | tuple[int, int], name: str) -> Tensor:
    return layers.Conv2D(n, kernel, padding="same", activation="relu", name=name)(x)


def _norm(x: Tensor, name: str) -> Tensor:
    return layers.BatchNormalization(name=name)(x)


def _up(x: Tensor, n: int, name: str) -> Tensor:
    return layers.Conv2DTranspose(n, 2, strides=2, name=name)(x)


def _join(name: str, *parts: Tensor) -> Tensor:
    return layers.Concatenate(name=name)(list(parts))


@dataclass(frozen=True)
class _Block:
    """One ESTAN block: filters, then kernels: first square, row, column, last of row-column, fusing."""

    n: int
    square: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    last: int
    fuse: int
    norm: bool = True


_BLOCKS = (
    _Block(32, 1, (1, 15), (15, 1), 3, 5),
    _Block(64, 3, (1, 13), (13, 1), 3, 5),
    _Block(128, 3, (1, 11), (11, 1), 1, 3),
    _Block(256, 3, (1, 9), (9, 1), 3, 1),
    _Block(512, 3, (3, 7), (7, 3), 3, 1, norm=False),
)


def _estan_encoder(x: Tensor, width: float) -> list[Tensor]:
    """The fused outputs E1 to E5 at strides 1, 2, 4, 8 and 16: a square and a row-column branch each."""
    outputs = []
    for number, block in enumerate(_BLOCKS, start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"estan{number}_pool")(x)
        x = _estan_block(x, block, filters(block.n, width), f"estan{number}")
        outputs.append(x)
    return outputs


def _estan_block(x: Tensor, block: _Block, n: int, name: str) -> Tensor:
    square = _conv(x, n, block.square, f"{name}_square_1")
    if block.norm:
        square = _norm(square, f"{name}_square_bn")
    square = _conv(square, n, 3, f"{name}_square_2")
    rowcol = _conv(x, n, block.rows, f"{name}_row")
    rowcol = _conv(rowcol, n, block.columns, f"{name}_column")
    if block.norm:
        rowcol = _norm(rowcol, f"{name}_rowcol_bn")
    rowcol = _conv(rowcol, n, block.last, f"{name}_rowcol")
    return _conv(_join(f"{name}_join", square, rowcol), n, block.fuse, f"{name}_fuse")


def _decoder(fused: Tensor, early: list[Tensor], late: list[Tensor], estan: list[Tensor], width: float) -> Tensor:
    """Four up blocks from stride 16 to 1, then one sigmoid per pixel.

    The encoder's stages run at half of ESTAN's resolution: its late tap joins before the upsampling, its
    early tap after the first convolution, ESTAN's output after the upsampling.
    """
    x = fused
    for number, full in enumerate((256, 128, 64, 32), start=1):
        n, stage, name = filters(full, width), 4 - number, f"up{number}"
        if number > 1:
            x = _join(f"{name}_late", x, late[stage])
        x = _conv(x, n, 3, f"{name}_a")
        x = _up(_join(f"{name}_early", x, early[stage]), n, f"{name}_up")
        x = _join(f"{name}_estan", x, estan[stage])
        x = _conv(x, n, 5 if number == 4 else 1, f"{name}_b")
        if number == 4:  # the last block sees the encoder's first convolution a second time, upsampled
            x = _join("up4_skip", x, _up(early[0], n, "up4_skip_up"))
        x = _conv(x, n, 3, f"{name}_c")
    x = layers.Conv2D(1, 1, name="mask_logit")(x)
    return layers.Activation("sigmoid", name="mask")(x)
