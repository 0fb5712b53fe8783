"""Phantoms in the layout of BUS-BRA: two views of most patients, masks of one bit, scanners and categories listed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_csv, save_image
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Labels, Phantom, PhantomPlan, images_by_case

_SCANNERS = ("GE Logiq 7 @10-14MHz", "GE Logiq 5 @8-12MHz", "Toshiba Aplio 300 @7-14MHz")
_VIEWS = {1: ("s",), 2: ("l", "r")}
_FOLDS = 5


def _write(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """`Images/`, `Masks/`, `bus_data.csv` and the folds of the source's owner; returns the names."""
    of_case: dict[int, list[Phantom]] = {}
    for phantom in phantoms:
        of_case.setdefault(phantom.case, []).append(phantom)
    scanner = {case: _SCANNERS[rng.integers(len(_SCANNERS))] for case in of_case}
    rows, folds, names, seen = [], [], list[str](), dict[int, int]()
    for phantom in phantoms:
        number = seen[phantom.case] = seen.get(phantom.case, -1) + 1
        view = _VIEWS[len(of_case[phantom.case])][number]
        name = f"bus_{phantom.case + 1:04d}-{view}"
        save_image(folder / "Images" / f"{name}.png", phantom.image)
        save_image(folder / "Masks" / f"mask_{name.removeprefix('bus_')}.png", phantom.mask, mode="1")
        height, width = phantom.image.shape
        inside = np.nonzero(phantom.mask)
        (top, left), (bottom, right) = (axis(inside, axis=1) for axis in (np.min, np.max))
        word = WORDS[phantom.label].lower()
        birads = int(rng.integers(3, 6) if phantom.label else rng.integers(2, 5))
        box = f"[{left},{top},{right - left + 1},{bottom - top + 1}]"
        side = {"s": "single", "l": "left", "r": "right"}[view]
        rows.append(
            [name, phantom.case + 1, "not known", word, birads, scanner[phantom.case], width, height, side, box]
        )
        tested = phantom.case % _FOLDS + 1
        # by image, so that patients are torn between training and validation, as in the real table
        validating = [(len(names) + fold) % _FOLDS == 0 for fold in range(1, _FOLDS + 1)]
        parts = ["NaN" if fold == tested else int(not validating[fold - 1]) for fold in range(1, _FOLDS + 1)]
        folds.append([name, word, tested, *parts])
        names.append(name)
    header = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"
    save_csv(folder / "bus_data.csv", header.split(","), rows)
    valid = [f"valid_{fold}" for fold in range(1, _FOLDS + 1)]
    save_csv(folder / f"{_FOLDS}-fold-cv.csv", ["ID", "Pathology", "kFold", *valid], folds)
    return names


def _cases(rng: np.random.Generator, labels: Labels) -> list[Labels]:
    """Two views of most patients."""
    return images_by_case(labels, lambda: int(rng.choice([1, 2], p=[0.24, 0.76])))


PLAN = PhantomPlan(0.324, Device(0.8, 1.5, 47, -17, (0.75, 1.1)), _write, cases=_cases)
