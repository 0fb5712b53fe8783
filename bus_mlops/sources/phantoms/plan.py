"""`PhantomPlan`: how the phantoms of one source are drawn and laid out; each source has one in a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bus_mlops.sources.phantoms.image import Device

Labels = list[int]


@dataclass(frozen=True)
class Phantom:
    """A drawn (H, W) uint8 image, the 0/1 masks of its lesions, label and case; a copy knows its original."""

    image: NDArray[np.uint8]
    masks: tuple[NDArray[np.uint8], ...]
    label: int
    case: int
    copy_of: int | None = None

    @property
    def mask(self) -> NDArray[np.uint8]:
        """All lesions in one (H, W) mask, 0 or 255."""
        lesions: NDArray[np.bool_] = np.any(self.masks, axis=0)
        return lesions.astype(np.uint8) * np.uint8(255)

    @property
    def tissue(self) -> NDArray[np.uint8]:
        """The part of the image above the lesion, for a source's images without one."""
        return self.image[: max(8, self.image.shape[0] // 4)]


def one_image_a_case(_: np.random.Generator, labels: Labels) -> list[Labels]:
    """Every image is a case of its own."""
    return [[label] for label in labels]


def images_by_case(labels: Labels, size: Callable[[], int]) -> list[Labels]:
    """Cases of one label each, benign first, each of the number of images that `size` draws for it."""
    cases: list[Labels] = []
    for label in (0, 1):
        remaining = labels.count(label)
        while remaining:
            images = min(size(), remaining)
            cases.append([label] * images)
            remaining -= images
    return cases


@dataclass(frozen=True)
class PhantomPlan:
    """What the phantoms of a source look like.

    Attributes:
        malignant: The share (0-1) of malignant images, that of the real source.
        write: Lays the phantoms out in a folder as the source's owner does and returns the images' names, in the order
            given.
        cases: Groups the labels of all images into the labels of each case.
        second_lesion: The share (0-1) of images with two lesions.
        near_copies: The source takes some of the planted near-duplicates, up to a third of its images.
        conflicting_copy: From three of them on, the last bears the label that its original does not.
    """

    malignant: float
    device: Device
    write: Callable[[Path, Sequence[Phantom], np.random.Generator], list[str]]
    cases: Callable[[np.random.Generator, Labels], list[Labels]] = one_image_a_case
    second_lesion: float = 0.0
    near_copies: bool = False
    conflicting_copy: bool = False
