"""When a model does not answer: a rule on what a picture looks like, and a rule on how sure its probability is.

Both are numbers in `package.json`: `Oddity` compares a picture with those that the model learnt from, `TriageRule`
says which label the calibration cases let rule out. What is fitted, and on what, is in `promotion/refusal.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bus_mlops.images.picture_statistics import STATISTICS_VERSION, Floats, Pixels, picture_statistics

Status = Literal["answered", "uncertain", "refused"]
Triage = Literal["low", "high", "uncertain"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=1000)]
Fraction = Annotated[float, Field(ge=0, le=1)]

# Standard deviations beyond which a statistic says no more: one wild number must not outweigh all others.
CLIP = 3.5
# What is measured of every rule: of its own images, by rules that were not fitted to them.
HELD_OUT = "training images, held out"


class Share(BaseModel):
    """A measured share with its 95 % interval over whole cases; None where it cannot be had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: int = Field(ge=0, description="images that it is a share of")
    share: Fraction | None = None
    low: Fraction | None = None
    high: Fraction | None = None

    def __str__(self) -> str:
        """As people read it.

        >>> str(Share(of=200, share=0.015, low=0.0, high=0.04))
        '1.5 % (0.0 to 4.0) of 200'
        """
        if self.share is None:
            return "none"
        between = "" if self.low is None or self.high is None else f" ({100 * self.low:.1f} to {100 * self.high:.1f})"
        return f"{100 * self.share:.1f} %{between} of {self.of}"


class Oddity(BaseModel):
    """A discriminant on the statistics of a picture: `oddness` is its log odds of being none of the model's kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statistics_version: int
    center: Numbers = Field(description="means of the statistics over training images")
    scale: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(max_length=1000)] = Field(
        description="their standard deviations"
    )
    linear: Numbers = Field(description="weights of the standardised statistics")
    square: Numbers = Field(description="weights of their squares")
    bias: Number
    threshold: Number = Field(description="images of greater oddness are refused")
    rate: Fraction = Field(description="of other looks at training images, held out, that may be refused")
    images: int = Field(ge=1, description="that it was fitted to")
    refused: dict[str, Share] = Field(
        default_factory=dict, description="measured shares: of its own images, of sources left out, of other pictures"
    )

    @model_validator(mode="after")
    def _fits(self) -> Oddity:
        if len({len(self.center), len(self.scale), len(self.linear), len(self.square)}) > 1:
            raise ValueError("center, scale, linear and square have one number for each statistic")
        if self.statistics_version != STATISTICS_VERSION:
            raise ValueError(
                f"its rule of refusal is on version {self.statistics_version} of the statistics and this bus-mlops "
                f"has {STATISTICS_VERSION}"
            )
        return self

    def of(self, statistics: Floats) -> Floats:
        """The oddness (N,) of pictures by their statistics (N, n)."""
        own = np.clip((statistics - np.array(self.center)) / np.array(self.scale), -CLIP, CLIP)
        return np.asarray(own @ np.array(self.linear) + (own**2 - 1) @ np.array(self.square) + self.bias)

    def of_square(self, square: Pixels) -> float:
        """The oddness of a picture (S, S) or (S, S, 3), 0-255, as the network gets it."""
        return float(self.of(picture_statistics(square)[None])[0])


class TriageRule(BaseModel):
    """Split conformal triage by class: which label the calibration cases let rule out at the nominal rates.

    Malignant is ruled out below `low`: of malignant cases that are exchangeable with the calibration cases, at most
    the share `miss_rate` lies there. Benign is ruled out above `high`, with `false_alarm_rate`. Where both or neither
    is ruled out, nothing is said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    miss_rate: Fraction = Field(description="nominal share of malignant cases that are called low")
    false_alarm_rate: Fraction = Field(description="nominal share of benign cases that are called high")
    malignant_cases: int = Field(ge=0, description="that it is calibrated on")
    benign_cases: int = Field(ge=0)
    low: Fraction | None = Field(description="below it malignant is ruled out; None: too few cases to rule it out")
    high: Fraction | None = Field(description="above it benign is ruled out; None: too few cases")
    nominal_npv: Fraction | None = Field(
        default=None,
        description="expected share of benign images among those called low, by calibration cases each left out",
    )
    measured: dict[str, Share] = Field(default_factory=dict, description="on test images, by what ships")

    def of(self, probability: float) -> Triage:
        """What can be said of an image with this probability (0-1)."""
        not_malignant = self.low is not None and probability < self.low
        not_benign = self.high is not None and probability > self.high
        if not_malignant == not_benign:
            return "uncertain"
        return "low" if not_malignant else "high"

    def reason(self, probability: float) -> str:
        """Why nothing can be said of an image with this probability, as a sentence."""
        if self.low is None and self.high is None:
            return f"It was calibrated on too few cases: {self.malignant_cases} malignant, {self.benign_cases} benign."
        return (
            f"A probability of {probability:.3f} rules out neither label alone: at the nominal rates malignant is "
            f"ruled out {_beyond('below', self.low)} and benign {_beyond('above', self.high)}."
        )


class Refusal(BaseModel):
    """What a package knows of what it cannot answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    oddity: Oddity | None = Field(default=None, description="None where there were too few images to fit one to")
    most_color: Fraction | None = Field(
        default=None, description="pictures of which more is coloured are refused; None: colour is no reason"
    )
    triage: TriageRule | None = Field(default=None, description="None where nothing was held out to calibrate on")

    def look(self, square: Pixels, colored: float) -> tuple[float | None, tuple[str, ...]]:
        """How odd a picture is, if that can be told, and why it gets no answer: a sentence a reason, none if it may.

        Args:
            square: As the network gets it.
            colored: The share (0-1) of the picture that is coloured, by `images.color`.
        """
        reasons = []
        if self.most_color is not None and colored > self.most_color:
            reasons.append(
                f"{100 * colored:.0f} % of it is coloured, and the model learnt from gray images (at most "
                f"{100 * self.most_color:g} % is answered): is it an unprocessed B-mode image, without Doppler?"
            )
        if self.oddity is None:
            return None, tuple(reasons)
        oddness = self.oddity.of_square(square)
        if oddness > self.oddity.threshold:
            reasons.append(
                f"It does not look like the images that the model learnt from (oddness {oddness:.2f}, at most "
                f"{self.oddity.threshold:.2f} is answered): is it an unprocessed B-mode image of a breast?"
            )
        return oddness, tuple(reasons)


def conformal_cut(scores: Floats, rate: float) -> float | None:
    """The greatest cut below which a new score, exchangeable with these (N,), lies with probability <= `rate`.

    The k-th least of them; None where k is 0: so few cases rule out nothing.

    >>> conformal_cut(np.arange(1, 20) / 20, 0.1)
    0.1
    """
    place = conformal_place(len(scores), rate)
    return float(np.sort(scores)[min(place, len(scores)) - 1]) if place >= 1 and len(scores) else None


def conformal_place(count: int, rate: float) -> int:
    """The place k of a `conformal_cut` among so many scores: floor(rate * (count + 1)).

    >>> conformal_place(19, 0.1), conformal_place(8, 0.1)
    (2, 0)
    """
    return int(np.floor(rate * (count + 1) + 1e-9))


def _beyond(word: str, cut: float | None) -> str:
    return f"{word} {cut:.3f}" if cut is not None else "nowhere (too few cases)"
