"""What may happen to an image between the scanner and the network, at a strength from 0 (nothing) to 1.

All take and give uint8 pixels of 0-255, (S, S) or (S, S, 3), before any scaling. What is drawn at random follows from
the image's id alone, and a stronger one draws the same more strongly, so that a curve is one of strength.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]

# At strength 1. A scanner shows the logarithm of the echo, so that gain moves all pixels by the same amount.
GAIN = 64.0
CONTRAST = 0.8
SPECKLE = 0.6
# Of the image's side.
BLUR = 0.02
CROP = 0.4
BEST_JPEG, WORST_JPEG = 95, 5
PAIRS = 6


@dataclass(frozen=True)
class Corruption:
    """One kind: what it does to pixels, and how its strength is told in its own unit."""

    apply: Callable[[Pixels, float, np.random.Generator], Pixels]
    describe: Callable[[float], str]


def corrupt(image: Pixels, kind: str, strength: float, image_id: str) -> Pixels:
    """The image as it looks after one kind of corruption; itself at strength 0.

    Args:
        image: (S, S) or (S, S, 3), 0-255.
        kind: A key of `CORRUPTIONS`.
        strength: 0-1.
        image_id: Decides what is drawn at random.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie between 0 and 1 but got {strength}")
    if strength == 0:
        return image
    seed = int.from_bytes(hashlib.sha256(f"{kind}:{image_id}".encode()).digest()[:8], "big")
    return CORRUPTIONS[kind].apply(image, strength, np.random.default_rng(seed))


def _gain(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    return _pixels(image + rng.choice([-1.0, 1.0]) * GAIN * strength)


def _contrast(image: Pixels, strength: float, _: np.random.Generator) -> Pixels:
    mean = image.mean()
    return _pixels(mean + (image - mean) * (1 - CONTRAST * strength))


def _speckle(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Multiplied by noise whose grains are about two pixels wide, the same in all channels."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal(image.shape[:2]), 0.7, mode="wrap")
    noise /= noise.std()
    return _pixels(image * (1 + SPECKLE * strength * (noise if image.ndim == 2 else noise[..., np.newaxis])))


def _blur(image: Pixels, strength: float, _: np.random.Generator) -> Pixels:
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * strength * image.shape[0]
    return _pixels(gaussian_filter(image.astype(np.float64), (sigma, sigma, 0)[: image.ndim], mode="nearest"))


def _jpeg(image: Pixels, strength: float, _: np.random.Generator) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=_quality(strength))
    with Image.open(stream) as decoded:
        return np.asarray(decoded)


def _crop(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A part of the image, somewhere, enlarged to its size: the operator has zoomed, or cut otherwise."""
    side = image.shape[0]
    kept = side * (1 - CROP * strength)
    left, top = rng.random(2) * (side - kept)
    box = (left, top, left + kept, top + kept)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box))


def _marks(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Pairs of calipers with the dotted line between them, as they are burnt in when something was measured."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    side = image.shape[0]
    arm = max(2, side // 28)
    white = 255 if image.ndim == 2 else (255, 255, 255)
    for ends in (rng.uniform(0.1, 0.9, (PAIRS, 2, 2)) * side)[: math.ceil(PAIRS * strength)]:
        for x, y in ends:
            draw.line((x - arm, y, x + arm, y), fill=white)
            draw.line((x, y - arm, x, y + arm), fill=white)
        steps = max(2, int(np.hypot(*(ends[1] - ends[0])) / (arm + 2)))
        dots = np.linspace(ends[0], ends[1], steps)
        draw.point([(float(x), float(y)) for x, y in dots], fill=white)
    return np.asarray(picture)


def _quality(strength: float) -> int:
    return round(BEST_JPEG + (WORST_JPEG - BEST_JPEG) * strength)


def _pixels(values: NDArray[Any]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


CORRUPTIONS: dict[str, Corruption] = {
    "gain": Corruption(_gain, lambda s: f"±{GAIN * s:.0f} grey levels"),
    "contrast": Corruption(_contrast, lambda s: f"x {1 - CONTRAST * s:.2f}"),
    "speckle": Corruption(_speckle, lambda s: f"standard deviation {SPECKLE * s:.2f} of the echo"),
    "blur": Corruption(_blur, lambda s: f"sigma {100 * BLUR * s:.1f} % of the side"),
    "jpeg": Corruption(_jpeg, lambda s: f"quality {_quality(s)}"),
    "crop": Corruption(_crop, lambda s: f"{100 * CROP * s:.0f} % of the side cut off"),
    "marks": Corruption(_marks, lambda s: f"{math.ceil(PAIRS * s)} pairs of calipers"),
}
