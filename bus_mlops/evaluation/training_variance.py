"""The variance of a mean over folds and seeds: which images were tested, and how trainings differ beyond that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# By simulation (docs/explanation/intervals.md) of three and five folds: of rows that have folds and no second seed.
ONE_SEED = "one seed: at thresholds, of calibration and of masks they cover 81 to 93 %, not 95 %"


@dataclass(frozen=True)
class MeanVariance:
    """Of a mean over folds and seeds, with its degrees of freedom and what it rests on, in words."""

    variance: float
    degrees: float
    method: str


def variance_of_mean(values: list[Array], drawn: list[Array], groups: list[int], trainings: bool) -> MeanVariance:
    """The variance of the mean of the values of each fold, (seeds,), whose resamples are (seeds, resamples).

    By the images: the bootstrap's, which is too small by one group. By the trainings: what the values vary more between
    folds, or between seeds, than the bootstrap explains; the larger of the two.
    """
    count = len(values)
    larger = [number / (number - 1) for number in groups]
    sampling = np.array([np.nanvar(each.mean(axis=0), ddof=1) * by for each, by in zip(drawn, larger, strict=True)])
    images, degrees = float(sampling.sum()) / count**2, float(sum(groups) - count)
    part = training_part(values, drawn, larger) if trainings else TrainingPart(0.0, 1.0)
    variance = images + part.variance
    if variance > 0:
        # Few trainings may differ by more than they show: as if by 2 / own of the images' part at least.
        at_least = part.at_least(images)
        degrees = (images + at_least) ** 2 / (images**2 / degrees + at_least**2 / part.degrees)
    if not trainings:
        return MeanVariance(variance, degrees, "groups drawn from all images; trainings as they are")
    why = " and ".join(part.between)
    words = f", and the variance between {why}" if why else "; one training: its variance is not known"
    if part.between == ("folds",):
        words += f"; {ONE_SEED}"
    return MeanVariance(variance, degrees, f"groups drawn in {count} fold{'' if count == 1 else 's'}{words}")


@dataclass(frozen=True)
class TrainingPart:
    """What a mean over folds varies by its trainings, beyond what its images explain.

    Attributes:
        between: What it was seen between: folds, seeds; nothing where there is one training.
    """

    variance: float
    degrees: float
    between: tuple[str, ...] = ()

    def at_least(self, images: float) -> float:
        """The part that degrees of freedom are weighed by, beside the images' part of the variance."""
        return max(self.variance, 2 / self.degrees * images) if self.between else 0.0


def training_part(values: list[Array], drawn: list[Array], larger: list[float]) -> TrainingPart:
    """What the values of each fold, (seeds,), vary more between folds, or between seeds, than their resamples explain.

    Args:
        values: Of each fold, (seeds,).
        drawn: Of each fold, (seeds, resamples).
        larger: By what the bootstrap's variance of each fold is too small.
    """
    count = len(values)
    found, why = [], []
    if count > 1:
        sampling = np.array([np.nanvar(each.mean(axis=0), ddof=1) * by for each, by in zip(drawn, larger, strict=True)])
        means = np.array([each.mean() for each in values])
        found.append((float(means.var(ddof=1) - sampling.mean()) / count, count - 1.0))
        why.append("folds")
    several = [i for i in range(count) if values[i].size > 1]
    if several:
        unexplained = [_between_seeds(values[i], drawn[i], larger[i]) for i in several]
        trained = sum(each.size for each in values)
        found.append((float(np.mean(unexplained)) / trained, float(sum(values[i].size - 1 for i in several))))
        why.append("seeds")
    added, own = max(found, default=(0.0, 1.0))
    return TrainingPart(max(added, 0.0), own, tuple(why))


def _between_seeds(values: Array, drawn: Array, larger: float) -> float:
    """Variance between the seeds of a fold that its images do not explain; below 0 by chance."""
    noise = np.nanvar(drawn - drawn.mean(axis=0), axis=1, ddof=1).sum() / (values.size - 1) * larger
    return float(values.var(ddof=1) - noise)
