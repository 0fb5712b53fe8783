"""Phantoms in the layout of Thammasat: screenshots whose crop columns are absolute and 1-based."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_csv, save_screenshot
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Labels, Phantom, PhantomPlan, images_by_case


def _write(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """Screenshots with borders whose crop columns are absolute and 1-based; returns the names."""
    (folder / "imgs").mkdir(parents=True)
    names, rows, seen = [], [], dict[int, int]()
    for i, phantom in enumerate(phantoms):
        seen[phantom.case] = seen.get(phantom.case, 0) + 1
        number = phantom.case + 1
        name = f"Case-{number}-U-1-{seen[phantom.case]}" if number % 5 else f"Case-{number}-U{seen[phantom.case]}"
        crop = save_screenshot(folder / "imgs" / f"{name}.jpg", phantom.image, rng)
        box = [crop.top + 1, crop.top + 1 + crop.height, crop.left + 1, crop.left + 1 + crop.width]
        rows.append([f"https://example.org/{i}", name, f"Case-{number}", WORDS[phantom.label].lower(), *box])
        names.append(name)
    header = "img url,img name,case id/cover img id,tumor type,crop r1,crop r2,crop col1,crop col2"
    save_csv(folder / "Thammasat.csv", header.split(","), rows)
    return names


def _cases(rng: np.random.Generator, labels: Labels) -> list[Labels]:
    """One image a case, in a few two or three."""
    return images_by_case(labels, lambda: int(rng.choice([1, 2, 3], p=[0.94, 0.045, 0.015])))


PLAN = PhantomPlan(0.544, Device(0.7, 1.6, 50, -19, (0.7, 0.85)), _write, cases=_cases)
