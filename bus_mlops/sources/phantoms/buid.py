"""Phantoms in the layout of BUID: folders as labels, bitmaps, masks as TIFF, and a third picture with the outline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_image
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Phantom, PhantomPlan


def _write(folder: Path, phantoms: Sequence[Phantom], _: np.random.Generator) -> list[str]:
    """`N Benign Image.bmp`, `Mask.tif` and `Lesion.bmp`; returns the names."""
    names, counts = [], [0, 0]
    for word in WORDS:
        (folder / word).mkdir(parents=True)
    for phantom in phantoms:
        word = WORDS[phantom.label]
        counts[phantom.label] += 1
        name = f"{counts[phantom.label]} {word}"
        image = np.stack([phantom.image] * 3, axis=-1)
        save_image(folder / word / f"{name} Image.bmp", image)
        save_image(folder / word / f"{name} Mask.tif", phantom.mask)
        edge = phantom.mask != np.roll(phantom.mask, 1, axis=1)
        save_image(
            folder / word / f"{name} Lesion.bmp",
            np.where(edge[..., None], np.array([255, 0, 0], dtype=np.uint8), image),
        )
        names.append(name)
    return names


PLAN = PhantomPlan(0.53, Device(0.8, 1.5, 47, -17, (0.9, 1.05)), _write)
