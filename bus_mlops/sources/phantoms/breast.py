"""Phantoms in the layout of BrEaST: RGBA images, masks beside them, a workbook, one image without a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_image, save_xlsx
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Phantom, PhantomPlan

_HEADER = ["CaseID", "Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Age", "BIRADS", "Classification"]


def _write(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """`caseNNN.png`, its masks and the sheet, whose numbers are numbers; returns the names."""
    images = folder / "BrEaST-Lesions_USG-images_and_masks"
    names, rows = [f"case{i:03d}" for i in range(1, len(phantoms) + 1)], list[list[object]]()
    for i, (phantom, name) in enumerate(zip(phantoms, names, strict=True)):
        save_image(images / f"{name}.png", phantom.image, mode="RGBA")
        save_image(images / f"{name}_tumor.png", phantom.mask)
        others = [f"{name}_other{k}.png" for k in range(1, 3 if i == 0 else 1)]
        for other in others:
            save_image(images / other, np.flip(phantom.mask, axis=1))
        category = ("4a", "4c", 5) if phantom.label else (2, 3, "4a")
        files = [f"{name}.png", f"{name}_tumor.png", "&".join(others) or None]
        rows.append([i + 1, *files, "not available", category[rng.integers(3)], WORDS[phantom.label].lower()])
    normal = f"case{len(phantoms) + 1:03d}.png"
    save_image(images / normal, phantoms[0].tissue, mode="RGBA")
    rows.append([len(phantoms) + 1, normal, None, None, 47, 1, "normal"])
    save_xlsx(folder / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", [_HEADER, *rows])
    return names


PLAN = PhantomPlan(0.389, Device(0.8, 1.4, 48, -17, (0.7, 0.95)), _write)
