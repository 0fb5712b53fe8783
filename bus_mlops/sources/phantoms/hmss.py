"""Phantoms in the layout of HMSS: screenshots, several images a case, a table with a byte-order mark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus_mlops.sources.phantoms.files import WORDS, save_csv, save_screenshot
from bus_mlops.sources.phantoms.image import Device
from bus_mlops.sources.phantoms.plan import Labels, Phantom, PhantomPlan, images_by_case

_MIXED_CASE_FROM = 30  # images in all


def _write(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """Screenshots with borders, several images a case, a table with a byte-order mark; returns the names."""
    (folder / "imgs").mkdir(parents=True)
    names, covers = _names(phantoms)
    rows = []
    for i, (phantom, name) in enumerate(zip(phantoms, names, strict=True)):
        crop = save_screenshot(folder / "imgs" / f"{name}.jpg", phantom.image, rng)
        word = WORDS[phantom.label]
        # the group is not the label: as in the real table, a row may stand in a group of the other kind
        group = WORDS[1 - phantom.label] if i == 7 else word
        about = ["Carcinoma" if phantom.label else "Fibroadenoma", "https://example.org/phantom", "A phantom"]
        box = [crop.top, crop.height, crop.left, crop.width]
        note = "changed" if i == 7 else ""
        url = f"https://example.org/{i}"
        rows.append([group, *about, url, name, covers[phantom.case], *box, word, note, ""])
    header = "group,subgroup,subgroup url,case description,img url,img name,case id/cover img id,crop r1,crop r2,"
    header += "crop col1,crop col2,tumor type,Notes,"
    save_csv(folder / "HMSS.csv", header.split(","), rows, "utf-8-sig")
    return names


def _names(phantoms: Sequence[Phantom]) -> tuple[list[str], dict[int, str]]:
    names, covers, seen = [], dict[int, str](), dict[int, int]()
    for phantom in phantoms:
        number = seen[phantom.case] = seen.get(phantom.case, 0) + 1
        if phantom.case % 2:
            name = f"{20011 + 37 * phantom.case}-Afbeelding{number}"
        elif phantom.case == 0 and number == 2:
            name = "2801-2"
        else:
            name = str(2800 + 16 * phantom.case + number)
        covers.setdefault(phantom.case, name)
        names.append(name)
    return names, covers


def _cases(rng: np.random.Generator, labels: Labels) -> list[Labels]:
    """Up to 15 images a case, most have few; one case with both labels, as in the real source."""
    remaining = sorted(labels)
    mixed = [[remaining.pop(0), remaining.pop(), remaining.pop()]] if len(labels) >= _MIXED_CASE_FROM else []
    most = min(15, max(1, len(labels) // 10))
    return mixed + images_by_case(remaining, lambda: min(most, int(rng.geometric(0.26))))


PLAN = PhantomPlan(0.578, Device(0.8, 1.5, 46, -17, (0.72, 0.95)), _write, cases=_cases, near_copies=True)
