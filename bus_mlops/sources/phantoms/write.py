"""`write_phantoms`: synthetic images in the sources' own layouts, so that everything runs without data.

Reproducible to the byte from `config.seed`. A notice in the folder says what they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.config import Config
from bus_mlops.errors import ConfigError
from bus_mlops.files import replaced_folder
from bus_mlops.sources.phantoms.image import Lesion, another_view, draw, random_lesion
from bus_mlops.sources.phantoms.plan import Phantom, PhantomPlan
from bus_mlops.sources.registry import NOTICE_FILE, SOURCES

NOTICE = """SYNTHETIC IMAGES (PHANTOMS)

Everything in this folder was drawn by bus_mlops from random numbers. Nothing here comes from a patient, and
no number computed from it says anything about patients. The folders imitate the layouts of public
sources of breast ultrasound images; the sources themselves are not contained. near_duplicates.csv lists the
images that are altered copies of others, planted so that the audit has something to find.
"""


def write_phantoms(config: Config, folder: Path) -> dict[str, int]:
    """Draw `config.phantom` into a folder, which appears complete or not at all.

    Near-duplicates count among a source's images. With no images asked for, only the notice is written.

    Returns:
        Images per source.

    Raises:
        ConfigError: A source has no plan, the near-duplicates do not fit, or the folder holds anything but phantoms.
    """
    plans = {name: source.phantoms() for name, source in SOURCES.items() if source.phantoms}
    counts = _counts(config.phantom.images, plans)
    copies = _share_copies(config.phantom.near_duplicates, counts, plans)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NOTICE_FILE).is_file():
        raise ConfigError(
            f"{folder} holds files but no {NOTICE_FILE}: phantoms never replace anything else. Move the files away."
        )
    with replaced_folder(folder) as partial:
        (partial / NOTICE_FILE).write_text(NOTICE, encoding="utf-8")
        lines = ["image_id,copy_of"]
        for source, count in counts.items():
            rng = np.random.default_rng([config.seed, *hashlib.sha256(source.encode()).digest()[:4]])
            phantoms = draw_phantoms(rng, plans[source], count, copies.get(source, 0), config.phantom.size)
            ids = [f"{source}/{name}" for name in plans[source].write(partial / source, phantoms, rng)]
            lines += [
                f"{image},{ids[phantom.copy_of]}"
                for image, phantom in zip(ids, phantoms, strict=True)
                if phantom.copy_of is not None
            ]
        if counts:
            (partial / "near_duplicates.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return counts


def draw_phantoms(rng: np.random.Generator, plan: PhantomPlan, count: int, copies: int, size: int) -> list[Phantom]:
    """The phantoms of one source: `count` images, the last `copies` of them altered copies of others.

    The longer side of an image is about `size` pixels. One of two or more originals has each label.
    """
    originals = count - copies
    malignant = int(np.clip(round(originals * plan.malignant), min(1, originals - 1), max(1, originals - 1)))
    labels = [1] * malignant + [0] * (originals - malignant)
    phantoms: list[Phantom] = []
    for case, case_labels in enumerate(plan.cases(rng, labels)):
        lesion: Lesion | None = None
        for number, label in enumerate(case_labels):
            same = lesion is not None and label == case_labels[number - 1]
            lesion = another_view(rng, lesion) if same and lesion else random_lesion(rng, bool(label))
            phantoms.append(_phantom(rng, plan, size, lesion, label, case))
    order = rng.permutation(len(phantoms))
    phantoms = [phantoms[i] for i in order]
    next_case = max(phantom.case for phantom in phantoms) + 1
    for number, original in enumerate(rng.choice(originals, copies, replace=False)):
        phantoms.append(_near_copy(rng, phantoms[original], int(original), next_case + number))
    if plan.conflicting_copy and copies >= 3:
        phantoms[-1] = replace(phantoms[-1], label=1 - phantoms[-1].label)
    return phantoms


def _counts(images: dict[str, int], plans: Mapping[str, PhantomPlan]) -> dict[str, int]:
    for source, count in images.items():
        if count and source not in plans:
            raise ConfigError(
                f"phantom.images.{source} is {count}, but phantoms are drawn for {', '.join(plans)} only. Take the "
                f"key out, or give the source in bus_mlops/sources/{source}.py a plan: phantoms=..."
            )
    return {source: count for source in plans if (count := images.get(source, 0)) > 0}


def _share_copies(copies: int, counts: dict[str, int], plans: Mapping[str, PhantomPlan]) -> dict[str, int]:
    """How many near-duplicates each source gets: as many as the others, a third of its images at most."""
    # First comes who needs three for a copy under the other label.
    takers = sorted((name for name in plans if plans[name].near_copies), key=lambda n: not plans[n].conflicting_copy)
    room = {source: counts.get(source, 0) // 3 for source in takers}
    if copies > sum(room.values()):
        raise ConfigError(
            f"phantom.near_duplicates is {copies}, but phantom.images of {' and '.join(takers)} leave room for "
            f"{sum(room.values())} (a third of each). Lower it, or draw more images there."
        )
    shares = dict.fromkeys(takers, 0)
    while sum(shares.values()) < copies:
        for source in takers:
            if shares[source] < room[source] and sum(shares.values()) < copies:
                shares[source] += 1
    return shares


def _phantom(rng: np.random.Generator, plan: PhantomPlan, size: int, lesion: Lesion, label: int, case: int) -> Phantom:
    lesions = [lesion]
    if plan.second_lesion and rng.random() < plan.second_lesion:
        beside = 0.2 if lesion.x > 0.5 else 0.8
        lesions.append(replace(another_view(rng, lesion), x=beside, radius=0.07))
    image, masks = draw(rng, plan.device, size, lesions)
    return Phantom(image, tuple(masks), label, case)


def _near_copy(rng: np.random.Generator, phantom: Phantom, original: int, case: int) -> Phantom:
    """The same frame as another export would show it: rescaled, other brightness, callipers added."""
    height, width = phantom.image.shape
    scale = rng.uniform(0.88, 0.98)
    shape = (max(24, round(width * scale)), max(24, round(height * scale)))
    image = np.asarray(Image.fromarray(phantom.image).resize(shape, Image.Resampling.BILINEAR)).astype(float)
    image = np.clip(image * rng.uniform(0.85, 1.15) + rng.uniform(-8, 8), 0, 255).astype(np.uint8)
    masks = tuple(np.asarray(Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST)) for mask in phantom.masks)
    return Phantom(_with_callipers(image, masks[0]), masks, phantom.label, case, copy_of=original)


def _with_callipers(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = image.copy()
    rows, columns = np.nonzero(mask)
    middle = int(rows.mean())
    for column in (int(columns.min()), int(columns.max())):
        image[max(0, middle - 2) : middle + 3, column] = 235
        image[middle, max(0, column - 2) : column + 3] = 235
    image[middle, int(columns.min()) : int(columns.max()) : 4] = 235
    return image
