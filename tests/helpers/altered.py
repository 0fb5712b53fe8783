"""Altered copies of an ultrasound image, as another export or another paper's figure would show it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

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


def _kept(image: Pixels, top: float, bottom: float, left: float, right: float) -> Pixels:
    """The image without those parts (fractions) of its sides."""
    height, width = image.shape
    return image[int(height * top) : height - int(height * bottom), int(width * left) : width - int(width * right)]


def sides_trimmed(image: Pixels, rng: np.random.Generator) -> Pixels:
    """10 to 17 % of the width cut off on either side, as from a wide screen to an old one."""
    left, right = rng.uniform(0.10, 0.17, 2)
    return _kept(image, 0, 0, left, right)


def one_side_trimmed(image: Pixels, rng: np.random.Generator) -> Pixels:
    """10 to 25 % of the width cut off on one side, as one panel of a split screen."""
    cut = rng.uniform(0.1, 0.25)
    return _kept(image, 0, 0, *((cut, 0) if rng.random() < 0.5 else (0, cut)))


def depth_cut(image: Pixels, rng: np.random.Generator) -> Pixels:
    """10 to 30 % cut off below, where tissue is far from the probe."""
    return _kept(image, 0, rng.uniform(0.1, 0.3), 0, 0)


def region_of_interest(image: Pixels, rng: np.random.Generator) -> Pixels:
    """60 to 75 % of width and height kept, at any place."""
    cut = 1 - rng.uniform(0.6, 0.75, 2)
    (top, left), (down, across) = rng.random(2), cut
    return _kept(image, down * top, down * (1 - top), across * left, across * (1 - left))


def bordered(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Black borders of up to 15 % of the sides, as a viewer or a slide adds them."""
    height, width = image.shape
    top, bottom = (int(height * part) for part in rng.uniform(0, 0.15, 2))
    left, right = (int(width * part) for part in rng.uniform(0, 0.15, 2))
    return np.pad(image, ((top, bottom), (left, right)))


def screen(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Borders with lines of text above, a depth scale with ticks and a gray bar beside the frame."""
    height, width = image.shape
    head, side = int(height * rng.uniform(0.08, 0.15)), int(width * rng.uniform(0.06, 0.12))
    picture = Image.fromarray(np.pad(image, ((head, 0), (side, side))))
    pen = ImageDraw.Draw(picture)
    pen.text((4, 2), "BREAST L  14L5  DR 62  MI 0.8  12/03/2014", fill=220)
    pen.text((4, head // 2), "G 54 %  4.0 cm  FR 23", fill=220)
    for tick in range(10):
        y = head + height * tick // 10
        pen.line([width + side + 2, y, width + side + (8 if tick % 5 else 14), y], fill=255)
    for y in range(height // 3):
        pen.line([2, head + y, side // 2, head + y], fill=255 - 765 * y // height)
    return np.asarray(picture)


def depth_scale(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Ticks with numbers down one side, a body mark and a focus arrow drawn over the frame."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    height, width = image.shape
    x = width - width // 12
    for tick in range(12):
        y = height * tick // 12
        pen.line([x, y, x + (10 if tick % 3 == 0 else 5), y], fill=255)
        pen.text((x - 12, y), str(tick), fill=255)
    pen.ellipse([width * 0.05, height * 0.75, width * 0.2, height * 0.92], outline=255, width=2)
    pen.polygon([(x - 6, height // 2 - 4), (x, height // 2), (x - 6, height // 2 + 4)], fill=255)
    return np.asarray(picture)


def stretched(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Width and height scaled differently: pixels that were no squares, by 6 to 15 %."""
    height, width = image.shape
    ratio = 1 + rng.uniform(0.06, 0.15)
    size = (int(width * ratio), height) if rng.random() < 0.5 else (width, int(height * ratio))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def dynamic_range(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A narrow dynamic range, below 15 to 25 % black and above 60 to 80 % white, and a gain that grows with depth."""
    gain = np.linspace(rng.uniform(0.6, 1), rng.uniform(1, 1.4), len(image))[:, None]
    low, high = rng.uniform(0.15, 0.25) * 255, rng.uniform(0.6, 0.8) * 255
    return np.clip((image * gain - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def smoothed(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Speckle reduction (a median of 5 pixels), then a JPEG of quality 30."""
    buffer = io.BytesIO()
    Image.fromarray(image).filter(ImageFilter.MedianFilter(5)).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer))


def export(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Sides trimmed, rescaled, of another brightness, with callipers: an old export beside a new one."""
    for alter in (sides_trimmed, rescaled, brightness, callipers):
        image = alter(image, rng)
    return image


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
# What devices, viewers and authors do to a frame, beside the above.
EXPORTS: dict[str, Alter] = {
    "sides trimmed": sides_trimmed,
    "one side trimmed": one_side_trimmed,
    "depth cut": depth_cut,
    "region of interest": region_of_interest,
    "black borders": bordered,
    "screen around it": screen,
    "depth scale": depth_scale,
    "stretched": stretched,
    "dynamic range": dynamic_range,
    "smoothed, JPEG 30": smoothed,
    "upside down": lambda image, _: np.ascontiguousarray(image[::-1]),
    "trimmed export": export,
}


def png_of_header(width: int, height: int) -> bytes:
    """A PNG whose header says a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")
