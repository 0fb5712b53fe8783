"""Phantoms in the layout of BUSI: folders as labels, several masks in several modes, and `normal/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bus_mlops.sources.phantoms.files import WORDS, save_image
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Phantom, PhantomPlan


def _write(folder: Path, phantoms: Sequence[Phantom], _: np.random.Generator) -> list[str]:
    """Folders as labels, `(N)` names, several masks in several modes, and `normal/`; returns the names."""
    for word in WORDS:
        (folder / word.lower()).mkdir(parents=True)
    names, counts = [], [0, 0]
    for i, phantom in enumerate(phantoms):
        word = WORDS[phantom.label].lower()
        counts[phantom.label] += 1
        name = f"{word} ({counts[phantom.label]})"
        image: NDArray[np.uint8] = np.stack([phantom.image] * 3, axis=-1) if i % 3 == 0 else phantom.image
        save_image(folder / word / f"{name}.png", image)
        for k, mask in enumerate(phantom.masks):
            mode = ("RGBA", "1")[i] if i < 2 else "L"
            save_image(folder / word / f"{name}_mask{f'_{k}' if k else ''}.png", mask * np.uint8(255), mode)
        names.append(name)
    for i, phantom in enumerate(phantoms[: min(3, len(phantoms))], start=1):
        save_image(folder / "normal" / f"normal ({i}).png", phantom.tissue)
        save_image(folder / "normal" / f"normal ({i})_mask.png", np.zeros_like(phantom.tissue))
    return names


# The copy under the other label: as in the real source, where the same lesion is under both.
PLAN = PhantomPlan(
    0.325,
    Device(0.7, 1.3, 48, -19, (0.7, 1.05)),
    _write,
    second_lesion=0.05,
    near_copies=True,
    conflicting_copy=True,
)
