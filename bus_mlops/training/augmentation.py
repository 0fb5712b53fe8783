"""The paper's augmentation (flip, shifts, rotation) as one affine resampling of image and mask together.

The draw of a batch depends on the seed and the step only, never on what was drawn before: a program that is
reused for another cell draws what a fresh one would. All strengths are tensors; changing one does not retrace
a graph.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Strengths(NamedTuple):
    """Scalars: flip 0 or 1, shifts as fractions of the side, rotation in degrees; all zero means none."""

    horizontal_flip: tf.Tensor
    height_shift: tf.Tensor
    width_shift: tf.Tensor
    rotation: tf.Tensor


class Draw(NamedTuple):
    """What happens to each image: flip -1 or 1, shifts as fractions, angle in radians; all (B,)."""

    flip: tf.Tensor
    down: tf.Tensor
    right: tf.Tensor
    angle: tf.Tensor


def draw(strengths: Strengths, batch: tf.Tensor, seed: tf.Tensor, step: tf.Tensor) -> Draw:
    """Draw for `batch` images: flip with probability 1/2, the rest uniform from minus to plus strength."""
    values = tf.random.stateless_uniform((batch, 4), seed=tf.stack([seed, step]), minval=-1.0, maxval=1.0)
    flip = tf.where((values[:, 0] < 0) & (strengths.horizontal_flip > 0), -1.0, 1.0)
    radians = strengths.rotation * (3.141592653589793 / 180)
    return Draw(
        flip,
        values[:, 1] * strengths.height_shift,
        values[:, 2] * strengths.width_shift,
        values[:, 3] * radians,
    )


def transforms(drawn: Draw, side: tf.Tensor) -> tf.Tensor:
    """The (B, 8) projective transforms: from a pixel of the result to the place in the image it comes from.

    With c the centre, R the rotation by the angle and F the flip: source = c + F R (pixel - c - shift). An
    image is thus flipped, then turned counter-clockwise (as seen) about its centre, then moved down and to
    the right.
    """
    side = tf.cast(side, tf.float32)
    centre = (side - 1) / 2
    cos, sin = tf.cos(drawn.angle), tf.sin(drawn.angle)
    right, down = centre + drawn.right * side, centre + drawn.down * side
    zero = tf.zeros_like(cos)
    a, b = drawn.flip * cos, drawn.flip * -sin
    return tf.stack(
        [a, b, centre - a * right - b * down, sin, cos, centre - sin * right - cos * down, zero, zero], axis=1
    )


def warp(images: tf.Tensor, matrices: tf.Tensor, interpolation: str) -> tf.Tensor:
    """Resample (B, S, S, C) images; pixels from outside repeat the nearest edge."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=matrices,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="NEAREST",
    )


def augment(
    images: tf.Tensor, masks: tf.Tensor | None, strengths: Strengths, seed: tf.Tensor, step: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Change images (B, S, S, C), bilinear, and masks (B, S, S), nearest, by the same draw.

    Without any strength they come back unchanged. Both are float32; a mask of 0/1 stays 0/1.
    """

    def changed() -> list[tf.Tensor]:
        shape = tf.shape(images)
        matrices = transforms(draw(strengths, shape[0], seed, step), shape[1])
        results = [warp(images, matrices, "BILINEAR")]
        if masks is not None:
            results.append(warp(masks[..., tf.newaxis], matrices, "NEAREST")[..., 0])
        return results

    unchanged = [images] if masks is None else [images, masks]
    active = tf.reduce_any(tf.stack(list(strengths)) > 0)
    results = tf.cond(active, changed, lambda: unchanged)
    return results[0], (results[1] if masks is not None else None)
