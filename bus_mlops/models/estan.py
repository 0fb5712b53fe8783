"""ESTAN: the encoder for small lesions that MT-ESTAN has too, and ESTAN alone, which only predicts masks.

The encoder is the one of MT-ESTAN's released code, layer by layer. ESTAN alone was never released: its plain
encoder and its decoder are inferred from that code and from an unofficial STAN, and its row is a baseline of
ours, not a replication. Unless said otherwise convolutions keep the size and have a ReLU, and batch
normalisation, where there is any, follows the ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

from bus_mlops.models.blocks import Tensor, join, mask_head, transposed
from bus_mlops.models.framework import keras, layers
from bus_mlops.models.scaling import scale
from bus_mlops.models.widths import filters

_FILTERS = (32, 64, 128, 256, 512)


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


def estan(
    *,
    input_size: int,
    scaling: str,
    dropout: float,  # noqa: ARG001 - every builder is called with it
    width: float,
) -> keras.Model:
    """Build ESTAN alone: 26,992,385 parameters at width 1, all of random start.

    Input (B, S, S, 3) RGB 0-255, S a multiple of 16; output {"mask": (B, S, S, 1)}, probability 0-1. It has no
    class head, so nothing that `dropout` could act on.
    """
    image = keras.Input((input_size, input_size, 3), name="image")
    scaled = scale(image, scaling, "")
    numbers = [filters(n, width) for n in _FILTERS]
    skips = estan_encoder(scaled, width)
    first, second = _plain_encoder(scaled, numbers)
    x = join("bridge", second[4], skips[4])
    for stage in (3, 2, 1, 0):
        n, name = numbers[stage], f"up{stage + 1}"
        x = join(f"{name}_second", transposed(x, n, f"{name}_up"), second[stage])
        x = conv(x, n, 3, f"{name}_a")
        x = join(f"{name}_first", x, first[stage], skips[stage])
        x = conv(conv(x, n, 1, f"{name}_b"), n, 3, f"{name}_c")
    return keras.Model(image, {"mask": mask_head(x)}, name="estan")


def estan_encoder(x: Tensor, width: float) -> list[Tensor]:
    """The fused outputs E1 to E5 at strides 1, 2, 4, 8 and 16: a square and a row-column branch each.

    From images (B, S, S, 3), S a multiple of 16, to (B, S, S, 32), ..., (B, S / 16, S / 16, 512) at width 1.
    """
    outputs = []
    for number, block in enumerate(_BLOCKS, start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"estan{number}_pool")(x)
        x = _estan_block(x, block, filters(block.n, width), f"estan{number}")
        outputs.append(x)
    return outputs


def _estan_block(x: Tensor, block: _Block, n: int, name: str) -> Tensor:
    square = conv(x, n, block.square, f"{name}_square_1")
    if block.norm:
        square = layers.BatchNormalization(name=f"{name}_square_bn")(square)
    square = conv(square, n, 3, f"{name}_square_2")
    rowcol = conv(x, n, block.rows, f"{name}_row")
    rowcol = conv(rowcol, n, block.columns, f"{name}_column")
    if block.norm:
        rowcol = layers.BatchNormalization(name=f"{name}_rowcol_bn")(rowcol)
    rowcol = conv(rowcol, n, block.last, f"{name}_rowcol")
    return conv(join(f"{name}_join", square, rowcol), n, block.fuse, f"{name}_fuse")


def conv(x: Tensor, n: int, kernel: int | tuple[int, int], name: str) -> Tensor:
    """Convolution that keeps the size, with ReLU: (B, h, w, c) -> (B, h, w, n)."""
    return layers.Conv2D(n, kernel, padding="same", activation="relu", name=name)(x)


def _plain_encoder(x: Tensor, numbers: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """The first and the second convolution of five blocks at strides 1, 2, 4, 8 and 16."""
    first, second = list[Tensor](), list[Tensor]()
    for number, n in enumerate(numbers, start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"plain{number}_pool")(x)
        first.append(conv(x, n, 3, f"plain{number}_1"))
        second.append(x := conv(first[-1], n, 3, f"plain{number}_2"))
    return first, second
