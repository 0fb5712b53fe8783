"""Phantoms in the layout of BUSIS: images and masks side by side, labels B and M."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import save_csv, save_image
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Phantom, PhantomPlan


def _write(folder: Path, phantoms: Sequence[Phantom], _: np.random.Generator) -> list[str]:
    """Images and masks side by side in `imgs/` and `GT/`, labels B and M; returns the names."""
    names = [f"case{i:04d}" for i in range(1, len(phantoms) + 1)]
    rows = []
    for phantom, name in zip(phantoms, names, strict=True):
        save_image(folder / "imgs" / f"{name}.png", phantom.image)
        save_image(folder / "GT" / f"{name}_GT.png", phantom.mask)
        rows.append([name, f"{name}_GT", "BM"[phantom.label]])
    save_csv(folder / "BUSIS562.csv", ["img name", "Ground Truth Name", "tumor type"], rows)
    return names


PLAN = PhantomPlan(0.456, Device(0.9, 1.7, 44, -15, (0.75, 0.9)), _write)
