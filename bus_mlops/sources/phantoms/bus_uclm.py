"""Phantoms in the layout of BUS-UCLM: patients with many images, half of them normal, masks in the labels' colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_csv, save_image
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Labels, Phantom, PhantomPlan, images_by_case

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CHANNEL = (1, 0)  # benign is green, malignant red


def _write(folder: Path, phantoms: Sequence[Phantom], _: np.random.Generator) -> list[str]:
    """`images/`, `masks/` and `INFO.csv` with semicolons; every third image has a normal one beside it."""
    rows, names, seen = [], [], dict[int, int]()

    def add(patient: int, image: np.ndarray, mask: np.ndarray, word: str) -> str:
        number = seen[patient] = seen.get(patient, -1) + 1
        name = f"{_letters(patient)}_{number:03d}"
        save_image(folder / "images" / f"{name}.png", np.stack([image] * 3, axis=-1))
        save_image(folder / "masks" / f"{name}.png", mask)
        rows.append([f"{name}.png", f"{image.shape[1]}x{image.shape[0]}", word, "No", "No", "No"])
        return name

    for i, phantom in enumerate(phantoms):
        mask = np.zeros((*phantom.mask.shape, 3), dtype=np.uint8)
        mask[..., _CHANNEL[phantom.label]] = phantom.mask
        names.append(add(phantom.case, phantom.image, mask, WORDS[phantom.label]))
        if i % 3 == 0:
            add(phantom.case, phantom.tissue, np.zeros((*phantom.tissue.shape, 3), dtype=np.uint8), "Normal")
    header = ["Image", "Resolution", "Label", "Doppler", "Marks", "Combined"]
    save_csv(folder / "INFO.csv", header, rows, separator=";")
    return names


def _letters(patient: int) -> str:
    """Four letters, as the real patients have."""
    return "".join(_LETTERS[patient // 26**power % 26] for power in (3, 2, 1, 0))


def _cases(rng: np.random.Generator, labels: Labels) -> list[Labels]:
    """About seven images of a patient."""
    return images_by_case(labels, lambda: int(rng.integers(1, 14)))


PLAN = PhantomPlan(0.341, Device(0.8, 1.5, 46, -16, (0.72, 0.95)), _write, cases=_cases)
