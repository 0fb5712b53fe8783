"""Pictures that a model of breast ultrasound should refuse, drawn by a program: a rule of refusal is fitted to them.

Pages of text, screens, charts, radiographs, slices of a body, ultrasound of other organs in a sector, noise, noise with
the spectrum of photographs, overlapping leaves (which have the edges of photographs), pictures of almost one value. No
real photograph is among them: those are kept for measuring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, map_coordinates

Pixels = NDArray[np.uint8]
Draw = Callable[[np.random.Generator], Pixels]

# Leaves stand for all that can be photographed: so many times as many of them as of each other kind.
LEAVES = 5

_WORDS = (
    "the",
    "of",
    "patient",
    "lesion",
    "Breast",
    "report",
    "12",
    "3.5",
    "mm",
    "left",
    "benign",
    "margin",
    "see",
    "with",
)


def drawn(count: int, seed: int = 0) -> Iterator[tuple[str, str, Pixels]]:
    """(kind, name, pixels) of `count` pictures of each kind that is drawn, and of leaves five times as many."""
    for place, (kind, draw) in enumerate(DRAWN.items()):
        for k in range(count * (LEAVES if kind == "leaves" else 1)):
            yield kind, f"{kind} {k}", draw(np.random.default_rng((seed, place, k)))


def eight_bits(frame: NDArray[np.generic]) -> Pixels:
    """Any values as gray levels, 0-255, between their percentiles 1 and 99.5."""
    values = np.asarray(frame, np.float64)
    low, high = np.percentile(values, [1, 99.5])
    return np.asarray(np.clip(255 * (values - low) / max(high - low, 1e-9), 0, 255), np.uint8)


def _page(rng: np.random.Generator) -> Pixels:
    height, width = int(rng.integers(500, 1100)), int(rng.integers(400, 900))
    dark = rng.random() < 0.25
    page = Image.new("L", (width, height), 20 if dark else 250)
    pen, size = ImageDraw.Draw(page), int(rng.integers(10, 40))
    font = ImageFont.load_default(size)
    for y in range(size, height - size, int(1.4 * size)):
        if rng.random() < 0.9:
            words = rng.choice(_WORDS, int(width / (3 * size)) + 1)
            pen.text((size, y), " ".join(words), fill=230 if dark else 10, font=font)
    return np.asarray(page)


def _screen(rng: np.random.Generator) -> Pixels:
    width, height = 1280, 800
    screen = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(screen)
    for _ in range(int(rng.integers(2, 6))):
        x, y = int(rng.integers(0, 900)), int(rng.integers(0, 500))
        w, h = int(rng.integers(250, 700)), int(rng.integers(150, 500))
        paper = tuple(rng.integers(180, 256, 3).tolist())
        pen.rectangle((x, y, x + w, y + h), fill=paper, outline=(60, 60, 60))
        pen.rectangle((x, y, x + w, y + 24), fill=tuple(rng.integers(0, 200, 3).tolist()))
        font = ImageFont.load_default(int(rng.integers(11, 18)))
        for line in range(y + 32, y + h - 20, 22):
            pen.text((x + 10, line), " ".join(rng.choice(_WORDS, max(1, w // 60))), fill=(20, 20, 20), font=font)
    return np.asarray(screen)


def _chart(rng: np.random.Generator) -> Pixels:
    chart = Image.new("RGB", (640, 480), "white")
    pen = ImageDraw.Draw(chart)
    pen.line((60, 20, 60, 440, 620, 440), fill="black", width=2)
    for _ in range(int(rng.integers(1, 5))):
        colour = tuple(rng.integers(0, 220, 3).tolist())
        walk = np.clip(230 + np.cumsum(rng.normal(0, rng.uniform(3, 25), 56)), 25, 435)
        if rng.random() < 0.5:
            pen.line([(60 + 10 * i, float(v)) for i, v in enumerate(walk)], fill=colour, width=2)
        else:
            for i, v in enumerate(walk[::4]):
                pen.rectangle((64 + 40 * i, float(v), 90 + 40 * i, 440), fill=colour)
    for y in range(40, 440, 60):
        pen.text((20, y), f"{440 - y}", fill="black")
    return np.asarray(chart)


def _radiograph(rng: np.random.Generator) -> Pixels:
    """A chest: a bright body, dark lungs with ribs, a bright heart and spine; smooth, with fine noise."""
    side = 400
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = 150.0 * (np.abs(x) < 0.9 - 0.1 * y**2)
    for centre in (-0.42, 0.42):
        body -= rng.uniform(80, 120) * (((x - centre) / 0.32) ** 2 + ((y + 0.05) / 0.65) ** 2 < 1)
    for k in range(8):
        arch = np.abs(y + 0.7 - 0.18 * k - 0.35 * (np.abs(x) - 0.4) ** 2 * rng.uniform(0.8, 1.2)) < 0.025
        body += 35.0 * (arch & (np.abs(x) < 0.8))
    body += 60.0 * (np.abs(x) < 0.09) + 70.0 * (((x - 0.12) / 0.3) ** 2 + ((y - 0.3) / 0.3) ** 2 < 1)
    smooth = gaussian_filter(body, rng.uniform(2, 6)) + rng.normal(0, rng.uniform(1, 6), body.shape)
    return eight_bits(smooth if rng.random() < 0.8 else -smooth)


def _slice(rng: np.random.Generator) -> Pixels:
    """A body in cross-section on black: a rim of fat, organs, a spine, air; as CT or MR show it."""
    side = 384
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    wide, high = rng.uniform(0.65, 0.9), rng.uniform(0.5, 0.8)
    image = 60.0 * _inside(x, y, 0, 0, wide, high)
    image[_inside(x, y, 0, 0, 0.9 * wide, 0.88 * high)] = rng.uniform(100, 140)
    for _ in range(int(rng.integers(4, 10))):
        place = rng.uniform(-0.5, 0.5, 2)
        image[_inside(x, y, *place, *rng.uniform(0.06, 0.28, 2)) & (image > 0)] = rng.uniform(20, 190)
    image[_inside(x, y, 0, 0.6 * high, 0.12, 0.12)] = 255
    return eight_bits(gaussian_filter(image, rng.uniform(0.7, 2)) + rng.normal(0, rng.uniform(2, 10), image.shape))


def _inside(
    x: NDArray[np.float64], y: NDArray[np.float64], cx: float, cy: float, rx: float, ry: float
) -> NDArray[np.bool_]:
    return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1)


def speckle(rng: np.random.Generator, shape: tuple[int, int], axial: float, lateral: float) -> NDArray[np.float64]:
    """Fully developed speckle in dB around 0: the magnitude of a complex Gaussian field seen through a beam."""
    field = [gaussian_filter(rng.normal(size=shape), (axial, lateral)) for _ in range(2)]
    magnitude = np.hypot(*field)
    return np.asarray(20 * np.log10(magnitude / magnitude.mean() + 1e-3))


def _sector(rng: np.random.Generator) -> Pixels:
    """Ultrasound of another organ: a sector on black with dark chambers and bright walls, or a liver with vessels."""
    depth, lines = 300, 200
    echo = np.full((depth, lines), rng.uniform(-25, -15))
    r, a = np.mgrid[0 : 1 : depth * 1j, -1 : 1 : lines * 1j]
    for _ in range(int(rng.integers(2, 7))):
        cr, ca, rr, ra = rng.uniform(0.25, 0.85), rng.uniform(-0.7, 0.7), rng.uniform(0.04, 0.22), rng.uniform(0.1, 0.5)
        distance = np.hypot((r - cr) / rr, (a - ca) / ra)
        echo[distance < 1] = -55
        echo[(distance >= 1) & (distance < 1.15)] = rng.uniform(-8, 0)
    seen = gaussian_filter(echo, (2, 1.5)) + speckle(rng, (depth, lines), 1.2, 2.5)
    values = np.clip(255 * (1 + seen / 55), 0, 255)
    half, side = np.deg2rad(rng.uniform(32, 48)), 400
    v, u = np.mgrid[0 : 1 : side * 1j, -0.75 : 0.75 : side * 1j]
    radius, angle = np.hypot(u, v), np.arctan2(u, v)
    where = np.stack([radius * (depth - 1), (angle / half + 1) / 2 * (lines - 1)])
    picture = map_coordinates(values, where, order=1)
    picture[(np.abs(angle) > half) | (radius > 1) | (radius < 0.06)] = 0
    return np.asarray(picture.astype(np.uint8))


def _noise(rng: np.random.Generator) -> Pixels:
    side = int(rng.integers(64, 500))
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 256, (side, side), dtype=np.uint8)
    if kind == 1:
        return np.asarray(255 * (rng.random((side, side)) < rng.uniform(0.02, 0.5)), np.uint8)
    cells = int(rng.integers(2, 12))
    return np.asarray(255 * ((np.indices((side, side)) * cells // side).sum(axis=0) % 2), np.uint8)


def _natural(rng: np.random.Generator) -> Pixels:
    """Noise with the spectrum of photographs, 1/f^a."""
    side = 256
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij"))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(side, side))) / frequency ** rng.uniform(0.8, 2)
    return eight_bits(np.real(np.fft.ifft2(spectrum)))


def _plain(rng: np.random.Generator) -> Pixels:
    """Almost one value, or one slow gradient."""
    level, slope = rng.uniform(0, 200), rng.choice([0.0, 0.0, 20.0, 120.0])
    ramp = np.linspace(0, slope, 300)[:, None] * np.ones((1, 300))
    return np.clip(level + ramp + rng.normal(0, 2, ramp.shape), 0, 255).astype(np.uint8)


def _leaves(rng: np.random.Generator) -> Pixels:
    """Leaves that fall on each other, of all sizes, shaded: as sharp and as smooth as photographs are."""
    height, width = 96, int(rng.choice([64, 96, 144]))
    picture = np.full((height, width), rng.uniform(0, 255))
    y, x = np.mgrid[:height, :width]
    for _ in range(int(rng.integers(15, 200))):
        size, tilt, flat = np.exp(rng.uniform(np.log(2), np.log(45))), rng.uniform(0, np.pi), rng.uniform(0.3, 1)
        v, u = (y - rng.uniform(0, height)) / size, (x - rng.uniform(0, width)) / size
        along, across = u * np.cos(tilt) + v * np.sin(tilt), (v * np.cos(tilt) - u * np.sin(tilt)) / flat
        leaf = along**2 + across**2 < 1 if rng.random() < 0.6 else np.maximum(abs(along), abs(across)) < 1
        shade = rng.uniform(0, 255) + rng.uniform(-60, 60) * along[leaf]
        picture[leaf] = shade + rng.normal(0, rng.uniform(0, 25), shade.shape)
    return np.asarray(np.clip(gaussian_filter(picture, rng.uniform(0.2, 1.8)), 0, 255).astype(np.uint8))


DRAWN: dict[str, Draw] = {
    "text pages": _page,
    "screens": _screen,
    "charts": _chart,
    "radiographs (drawn)": _radiograph,
    "body slices (drawn)": _slice,
    "other organs in a sector (drawn)": _sector,
    "noise": _noise,
    "noise like photographs": _natural,
    "leaves": _leaves,
    "almost one value": _plain,
}
