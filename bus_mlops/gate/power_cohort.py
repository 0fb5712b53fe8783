"""How many images, cases, folds and seeds a gate judges with: what its power depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bus_mlops.errors import EvaluationError

# Of a group's images: how alike the outcomes of one model on them are, beyond their common label.
WITHIN_GROUP = 0.25
FEWEST_FOLDS = 2


@dataclass(frozen=True)
class Counts:
    """Images and cases of one source, by label."""

    malignant: int
    benign: int
    malignant_cases: int
    benign_cases: int

    def times(self, factor: float) -> Counts:
        """As many more (or fewer), rounded."""
        numbers = (self.malignant, self.benign, self.malignant_cases, self.benign_cases)
        return Counts(*(max(1, round(factor * number)) for number in numbers))


@dataclass(frozen=True)
class Cohort:
    """The images that candidate and baseline are tested on.

    Attributes:
        sources: By name.
        folds: Test parts, all of the same size as far as the power goes.
        seeds: Trainings of each fold, candidate and baseline alike.
        validation: Images of a fold's validation part for each one of the cohort (a fraction).
        group_size: Images that the group of an image has in the mean over images, itself included.
    """

    sources: Mapping[str, Counts]
    folds: int
    seeds: int
    validation: float
    group_size: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no gate could judge.

        Raises:
            EvaluationError: Fewer than two folds, no seed, or too few images of a class for the folds.
        """
        if self.folds < FEWEST_FOLDS or self.seeds < 1:
            raise EvaluationError(
                f"power needs two folds and one seed or more but got {self.folds} and {self.seeds}: "
                "see --folds and --seeds."
            )
        fewest = min(self.malignant, self.benign)
        if fewest < 2 * self.folds:
            raise EvaluationError(
                f"{self.images} images, {self.malignant} of them malignant, leave a fold of {self.folds} without two "
                "images of each class: see --images, --malignant and --folds."
            )

    @classmethod
    def of_counts(cls, images: int, malignant: int, folds: int, seeds: int, validation: float = 0.2) -> Cohort:
        """One source, a case an image.

        Args:
            images: All.
            malignant: Of them.
            folds: Test parts.
            seeds: Trainings of each fold.
            validation: Share of the images outside a test part.
        """
        benign = images - malignant
        counts = Counts(malignant, benign, malignant, benign)
        return cls({"all": counts}, folds, seeds, validation * (1 - 1 / max(1, folds)))

    @property
    def malignant(self) -> int:
        """Images."""
        return sum(each.malignant for each in self.sources.values())

    @property
    def benign(self) -> int:
        """Images."""
        return sum(each.benign for each in self.sources.values())

    @property
    def images(self) -> int:
        """Both."""
        return self.malignant + self.benign

    @property
    def tested_per_trained(self) -> float:
        """Images of a fold's test part for each one that it trains on."""
        return (1 / self.folds) / (1 - 1 / self.folds - self.validation)

    @property
    def design_effect(self) -> float:
        """By how much groups raise the variance over that of as many images, each a case."""
        return 1 + WITHIN_GROUP * (self.group_size - 1)

    def resized(self, images: int) -> Cohort:
        """As many images with the same shares of labels, sources and groups."""
        factor = images / self.images
        return replace(self, sources={name: each.times(factor) for name, each in self.sources.items()})

    @property
    def in_words(self) -> str:
        """Counts for people."""
        seeds = f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"
        return f"{self.images:,} images ({self.malignant:,} malignant), {self.folds} folds x {seeds}"
