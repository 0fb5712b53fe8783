"""How a phantom looks: layered tissue, a lesion after BI-RADS, speckle and log compression; pure functions.

Synthetic images for demonstrations and tests. They obey the rough physics of B-mode ultrasound (attenuation,
posterior shadow and enhancement, speckle as the magnitude of a complex Gaussian field seen through a
point-spread function; Burckhardt 1978), but no number measured on them says anything about patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

Field = NDArray[np.float64]

# The share of lesions that look like the other kind: bounds what any classifier can reach.
_ATYPICAL = 0.01


@dataclass(frozen=True, slots=True)
class Device:
    """A scanner's hand: point-spread function in pixels (at 160 a side), dynamic range and gain in dB."""

    axial: float
    lateral: float
    dynamic_range: float
    gain: float
    aspect: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Lesion:
    """A lesion by its BI-RADS descriptors; lengths are fractions of the image's shorter side, echoes in dB.

    Attributes:
        elongation: Width over height (orientation).
        lobulation: Relative departure of the outline from an ellipse (shape).
        spicules: The same of the margin.
        blur: The width of the margin.
        posterior: The enhancement (positive) or shadow (negative) behind it.
    """

    x: float
    y: float
    radius: float
    elongation: float
    tilt: float
    lobulation: float
    spicules: float
    blur: float
    echo: float
    texture: float
    posterior: float
    halo: float
    outline_seed: int


def random_lesion(rng: np.random.Generator, malignant: bool) -> Lesion:
    """Draw a lesion: the kinds differ in every descriptor, with overlap; some look like the other kind."""
    look = malignant != bool(rng.random() < _ATYPICAL)

    def descriptor(benign: float, other: float, spread: float) -> float:
        return float(rng.normal(other if look else benign, spread))

    cyst = not look and rng.random() < 0.2
    return Lesion(
        x=float(rng.uniform(0.32, 0.68)),
        y=float(rng.uniform(0.34, 0.52)),
        radius=float(np.clip(descriptor(0.17, 0.18, 0.03), 0.09, 0.24)),
        elongation=float(np.exp(np.clip(descriptor(0.5, -0.05, 0.16), -0.5, 0.9))),
        tilt=float(rng.normal(0, 0.25)),
        lobulation=abs(descriptor(0.02, 0.12, 0.03)),
        spicules=max(0.0, descriptor(-0.05, 0.3, 0.1)),
        blur=float(np.clip(descriptor(0.07, 0.18, 0.06), 0.03, 0.4)),
        echo=-26.0 if cyst else min(-5.0, descriptor(-9.0, -17.0, 2.5)),
        texture=max(0.3, descriptor(1.0, 2.6, 0.8)),
        posterior=float(np.clip(descriptor(4.5, -10.0, 3.0) + (3.0 if cyst else 0.0), -18, 10)),
        halo=max(0.0, descriptor(-1.0, 4.5, 1.5)),
        outline_seed=int(rng.integers(2**31)),
    )


def another_view(rng: np.random.Generator, lesion: Lesion) -> Lesion:
    """The same lesion in another plane: moved, turned and scaled a little."""
    return replace(
        lesion,
        x=float(np.clip(lesion.x + rng.normal(0, 0.06), 0.25, 0.75)),
        y=float(np.clip(lesion.y + rng.normal(0, 0.03), 0.3, 0.56)),
        radius=float(np.clip(lesion.radius * rng.uniform(0.8, 1.15), 0.06, 0.24)),
        elongation=lesion.elongation * float(rng.uniform(0.9, 1.1)),
        tilt=lesion.tilt + float(rng.normal(0, 0.15)),
        outline_seed=int(rng.integers(2**31)),
    )


def draw(
    rng: np.random.Generator, device: Device, size: int, lesions: list[Lesion]
) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """An (H, W) uint8 image, 0-255, long side about `size` pixels, and the 0/1 mask of each lesion."""
    side = size * rng.uniform(0.85, 1.15)
    aspect = rng.uniform(*device.aspect)
    width, height = (side, side * aspect) if aspect <= 1 else (side / aspect, side)
    shape = (max(24, round(height)), max(24, round(width)))
    echo = _with_shadows(rng, _tissue(rng, shape))
    masks = []
    for lesion in lesions:
        echo, mask = _add_lesion(rng, echo, lesion)
        masks.append(mask)
    depth = np.linspace(0, 1, shape[0])[:, None]
    echo = echo - rng.uniform(3, 12) * depth**1.5
    return _scan(rng, echo, device, size / 160), masks


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]) -> Field:
    """A random field of mean 0 and standard deviation 1, correlated over `sigma` pixels."""
    field = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray((field - field.mean()) / (field.std() + 1e-9))


def _tissue(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Echo in dB of skin, fat, glandular tissue, muscle and chest wall, from the transducer down."""
    height, width = shape
    unit = max(shape) / 160
    depth = np.linspace(0, 1, height)[:, None]
    borders = np.array([0.045, rng.uniform(0.16, 0.28), rng.uniform(0.62, 0.74), rng.uniform(0.84, 0.92)])
    waves = gaussian_filter1d(rng.standard_normal((4, width)), width / 8, axis=1, mode="wrap")
    waves *= np.array([0.002, 0.03, 0.025, 0.015])[:, None] / (waves.std(axis=1, keepdims=True) + 1e-9)
    layer = sum((depth > border + wave).astype(int) for border, wave in zip(borders, waves, strict=True))
    level = np.array([5.0, -8.0, 0.0, -6.0, -16.0]) + rng.normal(0, 1.2, 5)
    echo = level[layer]
    echo += np.array([1.0, 2.2, 3.0, 1.5, 1.5])[layer] * _smooth(rng, shape, (2.5 * unit, 7 * unit))
    echo += np.array([0.0, 0.5, 2.0, 0.5, 0.0])[layer] * _smooth(rng, shape, (7 * unit, 16 * unit))
    fibres = np.abs(_smooth(rng, shape, (0.9 * unit, 22 * unit)))
    echo += np.array([0.0, 3.0, 0.5, 4.0, 1.0])[layer] * np.maximum(0, fibres - 1.0)
    fascia = np.exp(-(((depth - borders[3] - waves[3]) / 0.012) ** 2))
    return np.asarray(gaussian_filter(echo, 0.6 * unit) + rng.uniform(5, 10) * fascia)


def _with_shadows(rng: np.random.Generator, echo: Field) -> Field:
    """Shadows of ligaments and bad contact, in images of either kind: what is below a lesion must be told from them."""
    height, width = echo.shape
    y, x = np.mgrid[:height, :width]
    for _ in range(rng.integers(0, 3)):
        where, wide, top = rng.uniform(0.05, 0.95) * width, rng.uniform(0.03, 0.07) * width, rng.uniform(0.2, 0.6)
        across = np.exp(-(((x - where) / wide) ** 2))
        down = 1 / (1 + np.exp(-np.clip((y / height - top) / 0.03, -30, 30)))
        echo = echo - rng.uniform(5, 14) * across * down
    return echo


def _add_lesion(rng: np.random.Generator, echo: Field, lesion: Lesion) -> tuple[Field, NDArray[np.uint8]]:
    level = _outline(lesion, (echo.shape[0], echo.shape[1]))
    inside = 1 / (1 + np.exp(-np.clip((1 - level) / (0.35 * lesion.blur), -30, 30)))
    mask = (level < 1).astype(np.uint8)
    unit = max(echo.shape) / 160
    body = lesion.echo + lesion.texture * _smooth(rng, (echo.shape[0], echo.shape[1]), (3 * unit, 3 * unit))
    ring = np.exp(-(((level - 1.2) / 0.16) ** 2))
    # what the beam has crossed so far, relative to the thickest part: shadow and enhancement grow with it
    crossed = np.cumsum(inside, axis=0)
    crossed = gaussian_filter1d(crossed / max(float(crossed[-1].max()), 1.0), 1.5 * unit, axis=1)
    result = echo * (1 - inside) + body * inside + lesion.halo * ring
    return result + lesion.posterior * crossed * (1 - 0.6 * inside), mask


def _outline(lesion: Lesion, shape: tuple[int, int]) -> Field:
    """Distance from the lesion's centre in units of its outline: below 1 is inside."""
    rng = np.random.default_rng(lesion.outline_seed)
    height, width = shape
    radius = lesion.radius * min(shape)
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y - lesion.y * height, x - lesion.x * width
    cos, sin = np.cos(lesion.tilt), np.sin(lesion.tilt)
    across = (x * cos + y * sin) / (radius * np.sqrt(lesion.elongation))
    along = (y * cos - x * sin) / (radius / np.sqrt(lesion.elongation))
    angle = np.arctan2(along, across)
    outline = np.ones(shape)
    for order in range(2, 7):
        outline += lesion.lobulation * rng.normal() / order**0.5 * np.cos(order * angle + rng.uniform(0, 6.28))
    for centre in rng.uniform(-np.pi, np.pi, rng.integers(6, 12) if lesion.spicules else 0):
        gap = np.angle(np.exp(1j * (angle - centre)))
        outline += lesion.spicules * rng.uniform(0.5, 1.8) * np.exp(-((gap / rng.uniform(0.08, 0.16)) ** 2))
    return np.asarray(np.hypot(across, along) / np.maximum(outline, 0.4))


def _scan(rng: np.random.Generator, echo: Field, device: Device, unit: float) -> NDArray[np.uint8]:
    """Speckle and log compression, echo in dB -> gray levels; two looks averaged, as scanners compound."""
    sigma = (max(0.5, device.axial * unit), max(0.6, device.lateral * unit))
    looks = []
    for _ in range(2):
        real, imaginary = (gaussian_filter(rng.standard_normal(echo.shape), sigma) for _ in range(2))
        magnitude = np.hypot(real, imaginary)
        looks.append(magnitude / np.sqrt((magnitude**2).mean()))
    decibel = echo + 20 * np.log10(np.mean(looks, axis=0) + 1e-3)
    gray = 255 * (decibel + device.gain + rng.normal(0, 1.5) + device.dynamic_range) / device.dynamic_range
    image: NDArray[np.uint8] = np.clip(np.rint(gray), 0, 255).astype(np.uint8)
    return image
