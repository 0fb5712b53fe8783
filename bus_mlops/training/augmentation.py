"""The paper's augmentations, one by one or together, as one affine resampling of image and mask.

The draw of a batch depends on the seed and the step only, never on what was drawn before: a program that is
reused for another cell draws what a fresh one would. All strengths are tensors; changing one does not retrace
a graph.
"""

from __future__ import annotations

from typing import NamedTuple

from bus_mlops.models.framework import tf

_RADIANS = 3.141592653589793 / 180


class Strengths(NamedTuple):
    """Scalars: flip 0 or 1, shifts as fractions of the side, zoom a fraction, shear and rotation in degrees."""

    horizontal_flip: tf.Tensor
    height_shift: tf.Tensor
    width_shift: tf.Tensor
    zoom: tf.Tensor
    shear: tf.Tensor
    rotation: tf.Tensor


class Draw(NamedTuple):
    """What happens to each image: flip -1 or 1, shifts as fractions, scales, angles in radians; all (B,).

    `tall` and `wide` are how much of the image's height and width is seen: 0.8 enlarges it, 1.2 shrinks it.
    """

    flip: tf.Tensor
    down: tf.Tensor
    right: tf.Tensor
    tall: tf.Tensor
    wide: tf.Tensor
    shear: tf.Tensor
    angle: tf.Tensor


def draw(strengths: Strengths, batch: tf.Tensor, seed: tf.Tensor, step: tf.Tensor) -> Draw:
    """Draw for `batch` images: flip with probability 1/2, the rest uniform from minus to plus strength.

    Zoom is drawn for height and width apart, 1 - zoom to 1 + zoom, as Keras's ImageDataGenerator does; the paper
    gives neither its range nor the shear's.
    """
    first = tf.random.stateless_uniform((batch, 4), tf.stack([seed, step]), -1.0, 1.0, alg="philox")
    # A stream of its own, since steps are never negative: flips, shifts and turns do not depend on the other two.
    second = tf.random.stateless_uniform((batch, 3), tf.stack([seed, -1 - step]), -1.0, 1.0, alg="philox")
    return Draw(
        flip=tf.where((first[:, 0] < 0) & (strengths.horizontal_flip > 0), -1.0, 1.0),
        down=first[:, 1] * strengths.height_shift,
        right=first[:, 2] * strengths.width_shift,
        tall=1 + second[:, 0] * strengths.zoom,
        wide=1 + second[:, 1] * strengths.zoom,
        shear=second[:, 2] * strengths.shear * _RADIANS,
        angle=first[:, 3] * strengths.rotation * _RADIANS,
    )


def transforms(drawn: Draw, side: int) -> tf.Tensor:
    """The (B, 2, 3) affine maps from a pixel (x, y, 1) of the result to the place in the image it comes from.

    With c the centre, F the flip, R the rotation, H the shear [[1, -sin s], [0, cos s]] and Z the zoom: source =
    c + F R H Z (pixel - c - shift). The order of R, H and Z is that of Keras's ImageDataGenerator. An image is
    thus flipped, turned counter-clockwise (as seen) about its centre, sheared, zoomed, then moved down and right.
    """
    centre = (side - 1) / 2
    cos, sin = tf.cos(drawn.angle), tf.sin(drawn.angle)
    slant, upright = -tf.sin(drawn.shear), tf.cos(drawn.shear)
    right, down = centre + drawn.right * side, centre + drawn.down * side
    a, b = drawn.flip * cos * drawn.wide, drawn.flip * (cos * slant - sin * upright) * drawn.tall
    d, e = sin * drawn.wide, (sin * slant + cos * upright) * drawn.tall
    rows = [a, b, centre - a * right - b * down], [d, e, centre - d * right - e * down]
    return tf.stack([tf.stack(row, axis=1) for row in rows], axis=1)


def warp(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Resample (B, S, S, C) images bilinearly to float32; places outside repeat the nearest edge."""
    side = images.shape[1]
    x, y = _places(matrices, side)
    # The pair of the last pixel starts one earlier, so that all four neighbours lie at fixed distances.
    left, top = (tf.minimum(tf.cast(place, tf.int32), side - 2) for place in (x, y))
    to_right = (x - tf.cast(left, tf.float32))[..., tf.newaxis]
    to_bottom = (y - tf.cast(top, tf.float32))[..., tf.newaxis]
    pixels, index = tf.reshape(images, (-1, tf.shape(images)[3])), _index(left, top)
    a, b, c, d = (tf.cast(tf.gather(pixels, index + k), tf.float32) for k in (0, 1, side, side + 1))
    upper, lower = a + (b - a) * to_right, c + (d - c) * to_right
    return upper + (lower - upper) * to_bottom


def warp_masks(masks: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Resample (B, S, S) masks to float32 by the nearest pixel: what is 0/1 stays 0/1."""
    x, y = _places(matrices, masks.shape[1])
    nearest = _index(tf.cast(x + 0.5, tf.int32), tf.cast(y + 0.5, tf.int32))
    return tf.cast(tf.gather(tf.reshape(masks, (-1,)), nearest), tf.float32)


# Compiled into one loop over pixels, five to ten times as fast as TensorFlow's operations one after the other.
# The draw stays outside: there the same seed leads to other numbers.
@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]  # TensorFlow ships no types
def _change(images: tf.Tensor, masks: tf.Tensor | None, drawn: Draw) -> tuple[tf.Tensor, tf.Tensor | None]:
    matrices = transforms(drawn, images.shape[1])
    return warp(images, matrices), None if masks is None else warp_masks(masks, matrices)


def augment(
    images: tf.Tensor, masks: tf.Tensor | None, strengths: Strengths, seed: tf.Tensor, step: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Change images (B, S, S, C), bilinear, and masks (B, S, S), nearest, by the same draw.

    Both may be uint8 or float32 and come back as float32; a mask of 0/1 stays 0/1. Without any strength they
    keep their values.
    """
    values = Strengths(*(tf.convert_to_tensor(strength) for strength in strengths))

    def unchanged() -> tuple[tf.Tensor, tf.Tensor | None]:
        return tf.cast(images, tf.float32), None if masks is None else tf.cast(masks, tf.float32)

    def changed() -> tuple[tf.Tensor, tf.Tensor | None]:
        result: tuple[tf.Tensor, tf.Tensor | None] = _change(
            images, masks, draw(values, tf.shape(images)[0], seed, step)
        )
        return result

    active = tf.reduce_any(tf.stack(list(values)) > 0)
    result: tuple[tf.Tensor, tf.Tensor | None] = tf.cond(active, changed, unchanged)
    return result


def _places(matrices: tf.Tensor, side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each pixel of the result comes from: x and y, (B, S, S), inside the image."""
    at = tf.range(side, dtype=tf.float32)
    per_column, per_row = matrices[:, :, 0, tf.newaxis] * at, matrices[:, :, 1, tf.newaxis] * at
    places = per_column[:, :, tf.newaxis] + (per_row + matrices[:, :, 2, tf.newaxis])[..., tf.newaxis]
    inside = tf.clip_by_value(places, 0.0, side - 1.0)
    return inside[:, 0], inside[:, 1]


def _index(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Of pixel (x, y), each (B, S, S), in the pixels of all images in a row."""
    side = x.shape[1]
    image = tf.range(tf.shape(x)[0]) * (side * side)
    return image[:, tf.newaxis, tf.newaxis] + y * side + x
