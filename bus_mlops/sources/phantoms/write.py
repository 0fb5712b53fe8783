"""`write_phantoms`: synthetic images in the five sources' own layouts, so that everything runs without data.

Reproducible to the byte from `config.seed`. A notice in the folder says what they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.config import Config
from bus_mlops.errors import ConfigError
from bus_mlops.files import replaced_folder
from bus_mlops.sources.phantoms import layouts as layouts
from bus_mlops.sources.phantoms.image import Device, Lesion, another_view, draw, random_lesion
from bus_mlops.sources.registry import NOTICE_FILE

NOTICE = """SYNTHETIC IMAGES (PHANTOMS)

Everything in this folder was drawn by bus_mlops from random numbers. Nothing here comes from a patient, and
no number computed from it says anything about patients. The folders imitate the layouts of five public
sources of breast ultrasound images; the sources themselves are not contained. near_duplicates.csv lists the
images that are altered copies of others, planted so that the audit has something to find.
"""


@dataclass(frozen=True)
class _Plan:
    """How a source's phantoms are drawn: its share of malignant images is that of the real source."""

    malignant: float
    device: Device
    write: Callable[[Path, Sequence[layouts.Phantom], np.random.Generator], list[str]]


_PLANS = {
    "hmss": _Plan(0.578, Device(0.8, 1.5, 46, -17, (0.72, 0.95)), layouts.write_hmss),
    "busi": _Plan(0.325, Device(0.7, 1.3, 48, -19, (0.7, 1.05)), layouts.write_busi),
    "busis": _Plan(0.456, Device(0.9, 1.7, 44, -15, (0.75, 0.9)), layouts.write_busis),
    "thammasat": _Plan(0.544, Device(0.7, 1.6, 50, -19, (0.7, 0.85)), layouts.write_thammasat),
    "dataset_b": _Plan(0.331, Device(0.9, 1.4, 47, -18, (0.7, 0.9)), layouts.write_dataset_b),
}
# Sources that get planted copies; each can carry as many as a third of its images.
_WITH_COPIES = ("busi", "hmss")
_MIXED_CASE_FROM = 30


def write_phantoms(config: Config, folder: Path) -> dict[str, int]:
    """Draw `config.phantom` into a folder, which appears complete or not at all; returns images per source.

    Near-duplicates count among a source's images. With no images asked for, only the notice is written.
    Raises ConfigError when a source has no plan, the near-duplicates do not fit, or the folder holds anything
    but phantoms.
    """
    counts = _counts(config.phantom.images)
    copies = _share_copies(config.phantom.near_duplicates, counts)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NOTICE_FILE).is_file():
        raise ConfigError(
            f"{folder} holds files but no {NOTICE_FILE}: phantoms never replace anything else. Move the files away."
        )
    with replaced_folder(folder) as partial:
        (partial / NOTICE_FILE).write_text(NOTICE, encoding="utf-8")
        lines = ["image_id,copy_of"]
        for source, count in counts.items():
            rng = np.random.default_rng([config.seed, *hashlib.sha256(source.encode()).digest()[:4]])
            phantoms = _draw_source(rng, source, count, copies.get(source, 0), config.phantom.size)
            ids = [f"{source}/{name}" for name in _PLANS[source].write(partial / source, phantoms, rng)]
            lines += [
                f"{image},{ids[phantom.copy_of]}"
                for image, phantom in zip(ids, phantoms, strict=True)
                if phantom.copy_of is not None
            ]
        if counts:
            (partial / "near_duplicates.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return counts


def _counts(images: dict[str, int]) -> dict[str, int]:
    for source, count in images.items():
        if count and source not in _PLANS:
            raise ConfigError(
                f"phantom.images.{source} is {count}, but phantoms are drawn for {', '.join(_PLANS)} only. Take the "
                "key out, or add a plan to bus_mlops/sources/phantom.py."
            )
    return {source: count for source in _PLANS if (count := images.get(source, 0)) > 0}


def _share_copies(wanted: int, counts: dict[str, int]) -> dict[str, int]:
    room = {source: counts.get(source, 0) // 3 for source in _WITH_COPIES}
    if wanted > sum(room.values()):
        raise ConfigError(
            f"phantom.near_duplicates is {wanted}, but phantom.images of busi and hmss leave room for "
            f"{sum(room.values())} (a third of each). Lower it, or draw more images there."
        )
    first = min(room["busi"], max((wanted + 1) // 2, wanted - room["hmss"]))
    return {"busi": first, "hmss": wanted - first}


def _draw_source(rng: np.random.Generator, source: str, count: int, copies: int, size: int) -> list[layouts.Phantom]:
    plan, originals = _PLANS[source], count - copies
    malignant = int(np.clip(round(originals * plan.malignant), min(1, originals - 1), max(1, originals - 1)))
    labels = [1] * malignant + [0] * (originals - malignant)
    phantoms: list[layouts.Phantom] = []
    for case, case_labels in enumerate(_cases(rng, source, labels)):
        lesion: Lesion | None = None
        for number, label in enumerate(case_labels):
            same = lesion is not None and label == case_labels[number - 1]
            lesion = another_view(rng, lesion) if same and lesion else random_lesion(rng, bool(label))
            phantoms.append(_phantom(rng, plan.device, size, lesion, label, case, source))
    order = rng.permutation(len(phantoms))
    phantoms = [phantoms[i] for i in order]
    next_case = max(phantom.case for phantom in phantoms) + 1
    for number, original in enumerate(rng.choice(originals, copies, replace=False)):
        phantoms.append(_near_copy(rng, phantoms[original], int(original), next_case + number))
    if source == "busi" and copies >= 3:  # as in the real source: the same lesion under both labels
        phantoms[-1] = replace(phantoms[-1], label=1 - phantoms[-1].label)
    return phantoms


def _phantom(
    rng: np.random.Generator, device: Device, size: int, lesion: Lesion, label: int, case: int, source: str
) -> layouts.Phantom:
    lesions = [lesion]
    if source == "busi" and rng.random() < 0.05:
        beside = 0.2 if lesion.x > 0.5 else 0.8
        lesions.append(replace(another_view(rng, lesion), x=beside, radius=0.07))
    image, masks = draw(rng, device, size, lesions)
    return layouts.Phantom(image, tuple(masks), label, case)


def _cases(rng: np.random.Generator, source: str, labels: list[int]) -> list[list[int]]:
    """The labels of the images of each case: one image a case, except in HMSS and a few of Thammasat."""
    if source not in ("hmss", "thammasat"):
        return [[label] for label in labels]
    cases: list[list[int]] = []
    left = sorted(labels)
    if source == "hmss" and len(labels) >= _MIXED_CASE_FROM:
        cases.append([left.pop(0), left.pop(), left.pop()])  # the real source's case with both labels
    for label in (0, 1):
        remaining = left.count(label)
        while remaining:
            if source == "hmss":
                wanted = min(15, int(rng.geometric(0.26)), max(1, len(labels) // 10))
            else:
                wanted = int(rng.choice([1, 2, 3], p=[0.94, 0.045, 0.015]))
            wanted = min(wanted, remaining)
            cases.append([label] * wanted)
            remaining -= wanted
    return cases


def _near_copy(rng: np.random.Generator, phantom: layouts.Phantom, original: int, case: int) -> layouts.Phantom:
    """The same frame as another export would show it: rescaled, other brightness, callipers added."""
    height, width = phantom.image.shape
    scale = rng.uniform(0.88, 0.98)
    shape = (max(24, round(width * scale)), max(24, round(height * scale)))
    image = np.asarray(Image.fromarray(phantom.image).resize(shape, Image.Resampling.BILINEAR)).astype(float)
    image = np.clip(image * rng.uniform(0.85, 1.15) + rng.uniform(-8, 8), 0, 255).astype(np.uint8)
    masks = tuple(np.asarray(Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST)) for mask in phantom.masks)
    return layouts.Phantom(_with_callipers(image, masks[0]), masks, phantom.label, case, copy_of=original)


def _with_callipers(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = image.copy()
    rows, columns = np.nonzero(mask)
    middle = int(rows.mean())
    for column in (int(columns.min()), int(columns.max())):
        image[max(0, middle - 2) : middle + 3, column] = 235
        image[middle, max(0, column - 2) : column + 3] = 235
    image[middle, int(columns.min()) : int(columns.max()) : 4] = 235
    return image
