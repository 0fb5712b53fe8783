"""Altered copies of an ultrasound image, as another export or another paper's figure would show it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
Alter = Callable[[Pixels, np.random.Generator], Pixels]


def rescaled(image: Pixels, rng: np.random.Generator) -> Pixels:
    """0.4 to 1.6 times as large, then saved as a JPEG of quality 70."""
    height, width = image.shape
    scale = rng.uniform(0.4, 1.6)
    size = (max(32, int(width * scale)), max(32, int(height * scale)))
    buffer = io.BytesIO()
    Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=70)
    return np.asarray(Image.open(buffer))


def brightness(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Another gamma (0.6 to 1.6), gain (0.7 to 1.3) and offset (up to 20 levels)."""
    curved = 255 * (image / 255) ** rng.uniform(0.6, 1.6)
    return np.clip(curved * rng.uniform(0.7, 1.3) + rng.uniform(-20, 20), 0, 255).astype(np.uint8)


def callipers(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Two pairs of callipers with dotted lines, and a line of text."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    height, width = image.shape
    arm = max(3, width // 70)
    for _ in range(2):
        (x0, x1), (y0, y1) = rng.uniform(0.2, 0.8, 2) * width, rng.uniform(0.2, 0.8, 2) * height
        for x, y in ((x0, y0), (x1, y1)):
            pen.line([x - arm, y, x + arm, y], fill=255, width=2)
            pen.line([x, y - arm, x, y + arm], fill=255, width=2)
        dots = int(np.hypot(x1 - x0, y1 - y0) // 8) + 1
        pen.point([(x0 + (x1 - x0) * k / dots, y0 + (y1 - y0) * k / dots) for k in range(dots)], fill=255)
    pen.text((width * 0.05, height * 0.9), "1 D 12.3 mm 2 D 8.1 mm", fill=255)
    return np.asarray(picture)


def mirrored(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


def cropped(most: float) -> Alter:
    """Up to `most` (a fraction) of height and width cut off, of one of them at least half of that."""

    def alter(image: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = image.shape
        cut = rng.uniform(0, most, 2)
        cut[rng.integers(2)] = rng.uniform(most / 2, most)
        top, left = (int(side * part * rng.random()) for side, part in zip((height, width), cut, strict=True))
        return image[top : top + int(height * (1 - cut[0])), left : left + int(width * (1 - cut[1]))]

    return alter


def all_at_once(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Cropped by up to a tenth, rescaled, of another brightness, with callipers."""
    for alter in (cropped(0.1), rescaled, brightness, callipers):
        image = alter(image, rng)
    return image


def mirrored_and_cropped(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirrored, and cropped by up to a tenth."""
    return mirrored(cropped(0.1)(image, rng), rng)


KINDS: dict[str, Alter] = {
    "rescaled, JPEG": rescaled,
    "brightness": brightness,
    "callipers and text": callipers,
    "mirrored": mirrored,
    "cropped up to 10 %": cropped(0.10),
    "cropped up to 15 %": cropped(0.15),
    "cropped up to 20 %": cropped(0.20),
    "cropped up to 25 %": cropped(0.25),
    "mirrored and cropped": mirrored_and_cropped,
    "all but mirrored": all_at_once,
}


def png_of_header(width: int, height: int) -> bytes:
    """A PNG whose header says a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")
