"""A model's answer to an ultrasound image: every picture in every frame that is looked at, and what follows from them.

Of a clip at most `FRAMES` frames are looked at, evenly spaced. The image's answer is that of its picture with the
highest probability, since a lesion shows in few frames of a clip: a mean over all would hide it. Thresholds and
probabilities were measured on single pictures, so the highest of many exceeds them more often than was measured; how
many pictures did, and the median, are said beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bus_mlops.dicom.measure import Size, measure
from bus_mlops.dicom.pixels import frame_pixels
from bus_mlops.dicom.reading import UltrasoundImage
from bus_mlops.dicom.regions import Region
from bus_mlops.errors import DicomError

if TYPE_CHECKING:
    from bus_mlops.consumer.client import BusModel, Prediction

FRAMES = 32


@dataclass(frozen=True)
class Look:
    """One picture that was answered.

    Attributes:
        frame: Its frame's number, from 1.
        region: Where in the frame it is.
        prediction: The model's answer; its mask is (H, W) of the region.
        size: Of the lesion in it; None without a mask, a lesion in it, or a calibration.
    """

    frame: int
    region: Region
    prediction: Prediction
    size: Size | None


@dataclass(frozen=True)
class ImageAnswer:
    """What the model answered to an image: `looks` is not empty, and `chosen` is the one that counts."""

    image: UltrasoundImage
    looks: tuple[Look, ...]

    @property
    def answered(self) -> tuple[Look, ...]:
        """The pictures with a probability."""
        return tuple(look for look in self.looks if look.prediction.probability is not None)

    @property
    def chosen(self) -> Look:
        """The picture with the highest probability; the first where none has one."""
        return max(self.answered, key=lambda look: look.prediction.probability or 0.0, default=self.looks[0])

    @property
    def prediction(self) -> Prediction:
        """The image's answer: that of the chosen picture; a mask is in the pixels of its frame."""
        chosen = self.chosen
        mask = chosen.prediction.mask
        whole = None if mask is None else _pasted([chosen], self.image)
        return replace(chosen.prediction, source=self.image.name, mask=whole)

    @property
    def masks(self) -> dict[int, NDArray[np.uint8]]:
        """By frame number, what the model marked: (H, W) of the image, 1 inside; frames without a mark are left out."""
        numbers = sorted({look.frame for look in self.answered})
        pasted = {n: _pasted([look for look in self.answered if look.frame == n], self.image) for n in numbers}
        return {number: mask for number, mask in pasted.items() if mask.any()}

    @property
    def combined(self) -> str:
        """How the image's answer came from several pictures; "" for a single one."""
        asked, answered = len(self.looks), self.answered
        if self.image.frames == 1 and asked == 1:
            return ""
        seen = len({look.frame for look in self.looks})
        parts = [f"{asked} pictures in {seen} of {self.image.frames} frames were looked at"]
        if answered:
            values = [look.prediction.probability or 0.0 for look in answered]
            above = sum(look.prediction.label == "malignant" for look in answered)
            parts.append(
                f"the answer is the highest probability, of frame {self.chosen.frame}; the median of {len(values)} "
                f"answered is {median(values):.3f}; {above} of them are labelled malignant"
            )
        counts = Counter(look.prediction.status for look in self.looks)
        parts += [f"{counts[status]} {status}" for status in ("uncertain", "refused") if counts[status]]
        return (
            "; ".join(parts) + ". The threshold was chosen on single pictures: the highest of many exceeds it more "
            "often than was measured."
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: each picture with its answer, and the size of the chosen one's lesion."""
        return {
            "frames": self.image.frames,
            "frame": self.chosen.frame,
            "combined": self.combined,
            "long_axis_mm": None if self.chosen.size is None else self.chosen.size.long_axis,
            "short_axis_mm": None if self.chosen.size is None else self.chosen.size.short_axis,
            "pictures": [
                {
                    "frame": look.frame,
                    "region": [look.region.top, look.region.left, look.region.height, look.region.width],
                    "status": look.prediction.status,
                    "reasons": look.prediction.reasons,
                    "probability": look.prediction.probability,
                    "label": look.prediction.label,
                }
                for look in self.looks
            ],
        }


def answer(
    model: BusModel, image: UltrasoundImage, frames: int = FRAMES, before_run: Callable[[], None] = lambda: None
) -> ImageAnswer:
    """What a model answers to an image.

    Args:
        model: Masks are drawn if it can.
        image: Its frames are decoded one at a time.
        frames: Most frames to look at.
        before_run: As in `BusModel.stream`.

    Raises:
        DicomError: A frame cannot be decoded.
    """
    places = [(number, region) for number in spaced(image.frames, frames) for region in image.regions]
    rows = model.stream(_pictures(image, places), masks=model.package.has_mask, before_run=before_run)
    looks = [Look(number, region, row, _size(row, region)) for (number, region), row in zip(places, rows, strict=True)]
    return ImageAnswer(image, tuple(looks))


def spaced(count: int, most: int) -> list[int]:
    """The numbers, from 1, of at most `most` of `count` frames, evenly spaced, the first and the last among them.

    >>> spaced(3, 8), spaced(100, 4), spaced(9, 1)
    ([1, 2, 3], [1, 34, 67, 100], [5])
    """
    if most == 1:
        return [(count + 1) // 2]
    taken = min(count, most)
    return [1 + round(i * (count - 1) / max(taken - 1, 1)) for i in range(taken)]


def _pictures(image: UltrasoundImage, places: list[tuple[int, Region]]) -> Iterator[NDArray[np.uint8]]:
    number, pixels = 0, np.zeros((0, 0), dtype=np.uint8)
    for wanted, region in places:
        if wanted != number:
            try:
                number, pixels = wanted, frame_pixels(image.dataset, wanted - 1)
            except DicomError as error:
                raise DicomError(f"{image.name}: {error}") from error
        yield np.ascontiguousarray(pixels[region.slices])


def _size(row: Prediction, region: Region) -> Size | None:
    drawn = row.mask is not None and row.probability is not None
    return measure(row.mask, region.spacing) if drawn and row.mask is not None and region.spacing else None


def _pasted(looks: list[Look], image: UltrasoundImage) -> NDArray[np.uint8]:
    mask = np.zeros((int(image.dataset.Rows), int(image.dataset.Columns)), dtype=np.uint8)
    for look in looks:
        if look.prediction.mask is not None:
            mask[look.region.slices] |= look.prediction.mask
    return mask
