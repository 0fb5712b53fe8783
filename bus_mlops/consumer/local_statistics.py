"""How sure numbers of a hospital's own cases are: intervals that count its patients, not its images.

Closed forms that need NumPy alone, since the base install has no more. Each image may count with a share from 0 to 1 of
being called malignant, as over several fitted thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import sigmoid

Array = npt.NDArray[Any]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its two-sided 95 % interval, fractions; NaN where there is nothing to measure it by."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As people read it.

        >>> str(Estimate(0.9, 0.85, 0.94))
        '0.900 (0.850 to 0.940)'
        """
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


NOTHING = Estimate(math.nan, math.nan, math.nan)


def share_of(values: Array, cases: Array, more: float = 0.0) -> Estimate:
    """The mean over images of values (N,) from 0 to 1, such as whether each is called malignant.

    Wilson's interval at the number of independent images that would vary as much: the variance is that of whole cases
    (linearised; G / (G - 1) for few of them), at least that of independent images, and Student's t has G - 1 degrees.
    Where nothing varies, each case counts once.

    Args:
        values: One an image, (N,).
        cases: The case of each, (N,).
        more: A further variance of the mean, as that of thresholds.
    """
    if values.size == 0:
        return NOTHING
    mean = float(values.mean())
    names, member = np.unique(cases, return_inverse=True)
    count = len(names)
    binomial = mean * (1 - mean) / values.size
    number = float(count)
    if count > 1 and binomial > 0:
        sums = np.bincount(member, values - mean, minlength=count)
        clustered = count / (count - 1) * float((sums**2).sum()) / values.size**2
        number = mean * (1 - mean) / (max(clustered, binomial) + more)
    reach = student(max(count - 1, 1)) ** 2
    middle = (mean + reach / (2 * number)) / (1 + reach / number)
    half = math.sqrt(reach * (mean * (1 - mean) / number + reach / (4 * number**2))) / (1 + reach / number)
    return Estimate(mean, max(0.0, middle - half), min(1.0, middle + half))


def roc_area(labels: Array, probabilities: Array, cases: Array) -> Estimate:
    """The area under the ROC curve, with Obuchowski's variance of clustered data, symmetric on the logit's scale.

    Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 53, 1997. An area of 1 has Wilson's lower
    end for the number of cases of the rarer label.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), 0-1.
        cases: The case of each image, (N,).
    """
    positive = labels == 1
    benign, malignant = probabilities[~positive], probabilities[positive]
    if not benign.size or not malignant.size:
        return NOTHING
    wins = _placements(malignant, benign)
    parts = np.zeros(labels.size)
    parts[positive], parts[~positive] = wins, 1 - _placements(benign, malignant)
    area = float(wins.mean())
    names, member = np.unique(cases, return_inverse=True)
    sides = [np.unique(cases[each]).size for each in (positive, ~positive)]
    reach = student(max(min(sides) - 1, 1))
    if area in (0.0, 1.0):
        edge = min(sides) / (min(sides) + reach**2)
        return Estimate(area, edge, 1.0) if area else Estimate(area, 0.0, 1 - edge)
    sums = [
        np.bincount(member[each], parts[each] - area, minlength=len(names)) / each.sum()
        for each in (positive, ~positive)
    ]
    variance = sum(count / max(count - 1, 1) * float(own @ own) for count, own in zip(sides, sums, strict=True))
    variance += 2 * len(names) / max(len(names) - 1, 1) * float(sums[0] @ sums[1])
    deviation = math.sqrt(max(variance, 0.0)) / (area * (1 - area))
    center = math.log(area / (1 - area))
    low, high = sigmoid(np.array([center - reach * deviation, center + reach * deviation]))
    return Estimate(area, float(low), float(high))


def difference(here: Estimate, claimed: Estimate) -> Estimate:
    """The one minus the other, of independent images, from both intervals (Newcombe's square-and-add).

    >>> print(difference(Estimate(0.8, 0.7, 0.9), Estimate(0.9, 0.85, 0.95)))
    -0.100 (-0.212 to 0.012)
    """
    gap = here.value - claimed.value
    low = math.hypot(here.value - here.low, claimed.high - claimed.value)
    high = math.hypot(here.high - here.value, claimed.value - claimed.low)
    return Estimate(gap, gap - low, gap + high)


def student(degrees: float) -> float:
    """The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion; exact for 1 and 2 degrees.

    >>> round(student(1), 2), round(student(2), 2), round(student(9), 2), round(student(1e6), 2)
    (12.71, 4.3, 2.26, 1.96)
    """
    share = 0.5 + CONFIDENCE / 2
    if degrees <= 1:
        return math.tan(math.pi * (share - 0.5))
    if degrees <= 2:
        return (2 * share - 1) * math.sqrt(2 / (4 * share * (1 - share)))
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def _placements(ours: Array, others: Array) -> Array:
    """Of each of ours, the share of others that it lies above; ties count one half."""
    ranked = np.sort(others)
    below, up_to = (np.searchsorted(ranked, ours, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * ranked.size), np.float64)
