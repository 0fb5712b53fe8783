"""Phantoms in the layout of GDPH&SYSUCC: two hospitals' folders, a workbook of two readers, near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_image, save_xlsx
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Phantom, PhantomPlan

_CATEGORIES = ((2, 3, "4A"), ("4B", "4C", 5))


def _write(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """Numbers go on from the one hospital to the other, each label's from 0; returns the names."""
    for hospital in ("SYSUCC", "GDPH"):
        (folder / hospital).mkdir(parents=True)
    names, rows, counts = [], list[list[object]](), [0, 0]
    for i, phantom in enumerate(phantoms):
        name = f"{WORDS[phantom.label].lower()}({counts[phantom.label]})"
        counts[phantom.label] += 1
        hospital = "SYSUCC" if i < 2 * len(phantoms) / 3 else "GDPH"
        save_image(folder / hospital / f"{name}.png", phantom.image)
        rows.append([name, *(_CATEGORIES[phantom.label][k] for k in rng.integers(0, 3, 2)), i % 5 + 1])
        names.append(name)
    save_xlsx(folder / "BIRADS&FOLD.xlsx", [["ID", "BIRADS-reader1", "BIRADS-reader2", "fold"], *rows])
    return names


PLAN = PhantomPlan(0.632, Device(0.7, 1.4, 47, -18, (0.72, 1.0)), _write, near_copies=True, conflicting_copy=True)
