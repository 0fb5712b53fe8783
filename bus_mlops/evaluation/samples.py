"""A few test images of each row that draws masks: which are chosen, and the file that holds them.

Rows may have different input sizes, so pictures lie in the upper left corner of arrays as large as the largest, and
`side` says how many pixels of them count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError

if TYPE_CHECKING:
    import pandas as pd

# Test images shown of a row.
SAMPLES = 8
PICTURES = ("image", "mask_true", "mask_predicted")
ARRAYS = (*PICTURES, "image_id", "label", "probability", "model")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Samples:
    """A few test images with their masks: images uint8 0-255 and 0/1 masks, each (side, side) of its row's size."""

    image: list[Pixels]
    mask_true: list[Pixels]
    mask_predicted: list[Pixels]
    image_id: list[str]
    label: list[int]
    probability: list[float]
    model: list[str]


def choose(frame: pd.DataFrame, count: int = SAMPLES) -> npt.NDArray[np.int64]:
    """Positions of the images to show: in turn of each outcome, of the source that has been shown least.

    An outcome is a label with whether it was called right at 0.5; of a row that only draws masks, with whether Dice is
    above the median. The choice follows from the predictions alone.

    Args:
        frame: Test predictions of one row: image_id, source, label, probability (NaN of a row without), dice.
        count: How many, at most.
    """
    probability, label = frame["probability"].to_numpy(), frame["label"].to_numpy()
    good = (probability >= 0.5) == (label == 1)
    if np.isnan(probability).all():
        good = frame["dice"].to_numpy() >= frame["dice"].median()
    left = sorted(range(len(frame)), key=lambda i: str(frame["image_id"].iloc[i]))
    sources = frame["source"].astype(str).to_list()
    shown: Counter[str] = Counter()
    chosen: list[int] = []
    outcomes = [(1, True), (0, True), (1, False), (0, False)]
    while len(chosen) < min(count, len(frame)):
        for outcome in outcomes:
            own = [i for i in left if (int(label[i]), bool(good[i])) == outcome]
            if own and len(chosen) < count:
                best = min(own, key=lambda i: shown[sources[i]])
                left.remove(best)
                shown[sources[best]] += 1
                chosen.append(best)
    order = sorted(chosen, key=lambda i: (label[i], not good[i], sources[i], str(frame["image_id"].iloc[i])))
    return np.array(order, dtype=np.int64)


def join(samples: Sequence[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of several rows as those of one file, whatever the sizes of their pictures."""
    if not samples:
        return {"image_id": np.array([], dtype=str)}
    largest = max(item["image"].shape[1] for item in samples)

    def whole(pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
        spare = largest - pictures.shape[1]
        return np.pad(pictures, ((0, 0), (0, spare), (0, spare)))

    joined = {name: np.concatenate([item[name] for item in samples]) for name in ARRAYS if name not in PICTURES}
    joined |= {name: np.concatenate([whole(item[name]) for item in samples]) for name in PICTURES}
    return {**joined, "side": np.concatenate([np.full(len(item["label"]), item["image"].shape[1]) for item in samples])}


def read_samples(path: Path) -> Samples | None:
    """Read `<strategy>_samples.npz`, None if it is empty.

    Raises:
        EvaluationError: Its arrays do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if len(file["image_id"]) == 0:
                return None
            arrays = {name: file[name] for name in ARRAYS}
            # Earlier versions kept pictures of one size only.
            sides = file["side"] if "side" in file else np.full(len(arrays["label"]), arrays["image"].shape[1])
    except (KeyError, ValueError, OSError) as error:
        raise EvaluationError(f"{path} cannot be read ({error}): train the strategy again.") from error
    shape = arrays["image"].shape
    for name in ARRAYS:
        expected = shape if name.startswith("mask") else shape[:1]
        if name != "image" and arrays[name].shape != expected:
            raise EvaluationError(f"{path}: {name} must be {expected} but is {arrays[name].shape}.")
    image, true, predicted = (
        [picture[:side, :side] for picture, side in zip(pictures, map(int, sides), strict=True)]
        for pictures in (arrays["image"].astype(np.uint8), *((arrays[m] > 0).astype(np.uint8) for m in PICTURES[1:]))
    )
    return Samples(
        image=image,
        mask_true=true,
        mask_predicted=predicted,
        image_id=[str(value) for value in arrays["image_id"]],
        label=[int(value) for value in arrays["label"]],
        probability=[float(value) for value in arrays["probability"]],
        model=[str(value) for value in arrays["model"]],
    )
