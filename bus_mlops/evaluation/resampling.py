"""The case-clustered bootstrap's draw: how often each group of images is in each resample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class GroupWeights:
    """How often each group was drawn, (resamples, groups), and which group each image is in, (N,)."""

    counts: Array
    member: Array

    @classmethod
    def identity(cls, images: int) -> GroupWeights:
        """One resample that holds every image once."""
        return cls(np.ones((1, images)), np.arange(images))

    @property
    def resamples(self) -> int:
        """How many resamples there are."""
        return int(self.counts.shape[0])

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.counts.shape[1])

    def totals(self, values: Array) -> Array:
        """Sums of values over the images of each resample: (N,) give (resamples,), (N, K) give (resamples, K).

        >>> GroupWeights(np.array([[2, 0], [1, 1]]), np.array([0, 1, 0])).totals(np.array([1, 10, 100])).tolist()
        [202.0, 111.0]
        """
        columns = values.reshape(values.shape[0], -1).shape[1]
        cells = self.member[:, None] * columns + np.arange(columns)
        sums = np.bincount(cells.ravel(), values.ravel(), minlength=self.groups * columns).reshape(self.groups, columns)
        # Single precision where counts are: their product is then one fast multiplication.
        kind = self.counts.dtype if self.counts.dtype.kind == "f" else np.float64
        return np.asarray((self.counts @ sums.astype(kind)).reshape(-1, *values.shape[1:]), dtype=np.float64)

    def first(self, resamples: int) -> GroupWeights:
        """The first so many resamples."""
        return GroupWeights(self.counts[:resamples], self.member)

    def images(self) -> Iterator[Array]:
        """The images of each resample in turn: row numbers, ascending, one that was drawn twice standing there twice.

        >>> [drawn.tolist() for drawn in GroupWeights(np.array([[2, 0], [1, 1]]), np.array([0, 1, 0])).images()]
        [[0, 0, 2, 2], [0, 1, 2]]
        """
        rows = np.arange(self.member.size)
        return (np.repeat(rows, counts[self.member].astype(np.int64)) for counts in self.counts)


def group_weights(groups: npt.ArrayLike, resamples: int, seed: int) -> GroupWeights:
    """Draw `resamples` times as many groups as there are, with replacement; the same seed, the same draw."""
    (weights,) = shared_weights([groups], resamples, seed)
    return weights


def shared_weights(cells: Sequence[npt.ArrayLike], resamples: int, seed: int, stream: int = 0) -> list[GroupWeights]:
    """One draw of groups for several sets of images, such as one test part predicted with several seeds.

    Args:
        cells: The group of each image of each set.
        resamples: How many.
        seed: Of the draw.
        stream: Draws of another stream are independent, as those of folds have to be.

    Raises:
        EvaluationError: There are no resamples, or fewer than two groups.
    """
    if resamples < 1:
        raise EvaluationError(f"bootstrap resamples must be 1 or more but got {resamples}.")
    texts = [np.asarray(groups).astype(str) for groups in cells]
    names, member = np.unique(np.concatenate(texts), return_inverse=True)
    if len(names) < 2:
        raise EvaluationError("a clustered bootstrap needs two groups of images or more but got one.")
    counts = _draws(len(names), resamples, seed, stream)
    ends = np.cumsum([text.size for text in texts])[:-1]
    return [GroupWeights(counts, each) for each in np.split(member, ends)]


def weights_within(folds: npt.ArrayLike, groups: npt.ArrayLike, resamples: int, seed: int) -> GroupWeights:
    """Draw groups within each fold, as many as it tests, so that every resample keeps the folds' sizes.

    Args:
        folds: The fold that tests each image, (N,); a group that two folds test counts as two.
        groups: The group of each image, (N,).
        resamples: How many.
        seed: Of the draws, which are independent from fold to fold.

    Raises:
        EvaluationError: There are no resamples, or a fold has fewer than two groups.
    """
    of_image, names = np.asarray(folds), np.asarray(groups)
    member, counts, before = np.empty(of_image.size, np.int64), list[Array](), 0
    for fold in np.unique(of_image):
        rows = of_image == fold
        (weights,) = shared_weights([names[rows]], resamples, seed, stream=int(fold))
        member[rows] = weights.member + before
        counts.append(weights.counts)
        before += weights.counts.shape[1]
    return GroupWeights(np.asfortranarray(np.concatenate(counts, axis=1)), member)


# Rows of one table share their folds: a draw each, of at most 15.
@lru_cache(maxsize=16)
def _draws(groups: int, resamples: int, seed: int, stream: int) -> Array:
    """Counts (resamples, groups); those of a group lie next to each other in memory, as ROC areas read them."""
    rng = np.random.default_rng((seed, stream) if stream else seed)
    drawn = rng.integers(0, groups, size=(resamples, groups))
    flat = drawn + groups * np.arange(resamples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=resamples * groups).reshape(resamples, groups)
    # Rows of one table share their images; the cache must not be changed through one of them.
    counts = np.asfortranarray(counts, dtype=np.float32)
    counts.flags.writeable = False
    return counts
