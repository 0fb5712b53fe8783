"""Phantoms in the layout of Dataset B: zero-padded names with gaps, a table with a legend beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_image, save_xlsx
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Phantom, PhantomPlan


def _write(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """Zero-padded names with gaps and a table with a legend beside it; returns the names."""
    numbers = np.sort(rng.choice(np.arange(1, 2 * len(phantoms) + 1), len(phantoms), replace=False))
    names = [f"{number:06d}" for number in numbers]
    rows: list[list[str | None]] = [["Image", "Type", "Diagnosis", None, "Legend", "Meaning"]]
    for phantom, name in zip(phantoms, names, strict=True):
        save_image(folder / "imgs" / f"{name}.png", phantom.image)
        save_image(folder / "GT" / f"{name}.png", phantom.mask)
        rows.append([name, WORDS[phantom.label], "IDC" if phantom.label else "FA", None, None, None])
    for row, legend in zip(rows[1:], (("FA", "Fibroadenoma"), ("IDC", "Invasive carcinoma")), strict=False):
        row[4:] = legend
    save_xlsx(folder / "DatasetB.xlsx", rows)
    return names


PLAN = PhantomPlan(0.331, Device(0.9, 1.4, 47, -18, (0.7, 0.9)), _write)
