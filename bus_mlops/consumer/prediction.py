"""What a model answers for one image: the row that every form of an answer is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bus_mlops.consumer.refusal import Status, Triage
from bus_mlops.consumer.standing import UNKNOWN, Standing


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one image, or the reason why there is none."""

    source: str
    """The path as given; `image[i]` for anything else."""
    probability: float | None
    """Of malignancy, 0-1: the mean over the members. None if the image could not be read."""
    spread: float | None
    """Greatest minus least probability over the members, 0-1; 0 for a single member."""
    members: tuple[float, ...] | None
    """The calibrated probability of malignancy, 0-1, of each member that was asked, in the order of the package."""
    label: Literal["benign", "malignant"] | None
    """Malignant if probability >= threshold."""
    threshold: float
    model: str
    version: str | None
    """In the registry; None for a folder that was never registered."""
    mask: np.ndarray | None = None
    """uint8 (H, W), 1 inside the lesion, in the pixels of the original image; None unless asked for."""
    explanation: np.ndarray | None = None
    """float32 (H, W), -1 to 1: how far the probability falls when that place is covered; None unless asked for."""
    error: str | None = None
    error_type: str | None = None
    """ImageSizeError (too many or too few pixels), ImageError (not a readable image) or ModelOutputError."""
    standing: Standing = UNKNOWN
    """What the gate and those who decide have said of the model; `str` of it is a sentence."""
    status: Status = "answered"
    """`refused`: no answer, because the image could not be read or is none that the model knows; `uncertain`: an
    answer that the calibration cases do not support."""
    reasons: tuple[str, ...] = ()
    """Of a status that is not `answered`, each a sentence."""
    oddness: float | None = None
    """How unlike its training images the model finds the image, larger is odder; None if it cannot tell."""
    triage: Triage | None = None
    """Whether malignant (`low`) or benign (`high`) can be ruled out at the nominal rate; None if it cannot tell."""
    input: str | None = None
    """sha256 of the image's bytes, or of an array's; None if its file could not be read."""
    seconds: float | None = field(default=None, compare=False)
    """From the reading of the image to its answer; images of one batch are answered together."""
