"""The images that no fold touches: a locked part of the cases, and sources that are external.

Whatever is trained, calibrated, chosen or stopped knows none of them. Only a frozen model is judged on them, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.dataset.folds.assignment import EXTERNAL, LOCKED, fold_columns
from bus_mlops.dataset.folds.partition import group_features, partition
from bus_mlops.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SealedCohort:
    """Images that a frozen model may be judged on.

    Attributes:
        name: `locked`, or the source.
        part: locked or external.
        frame: Their rows of folds.csv.
        related: How many images of an external source are left out, since they are in the leakage group of an image
            that is not external.
    """

    name: str
    part: str
    frame: pd.DataFrame = field(repr=False)
    related: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Of its images, cases, groups and malignant images, and of those that are left out (`related`)."""
        return {
            "images": len(self.frame),
            "cases": int(self.frame["case_id"].nunique()),
            "groups": int(self.frame["group"].nunique()),
            "malignant": int((self.frame["label"] == 1).sum()),
            "related": self.related,
        }


def choose_locked(
    frame: pd.DataFrame, blocks: Iterable[Sequence[str]], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Which rows are locked: groups whole, by source and label as balanced as they can be.

    It follows from the images, `fraction` and `seed` alone, so that folds may be made anew around it.

    Args:
        frame: The leading columns of folds.csv.
        blocks: Sources that share groups, together.
        fraction: Of the groups and images, 0-1.
        seed: Of the project.
    """
    locked = np.zeros(len(frame), dtype=bool)
    for sources in blocks if fraction else ():
        rows = np.flatnonzero(frame["source"].isin(list(sources)).to_numpy())
        features, of_row = group_features(frame.iloc[rows])
        digest = hashlib.sha256("+".join((*sources, LOCKED)).encode()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
        locked[rows] = (partition(features, [1 - fraction, fraction], rng) == 1)[of_row]
    return locked


def sealed_cohorts(frame: pd.DataFrame, sources: Collection[str] | None = None) -> list[SealedCohort]:
    """The locked part, where there is one, and each external source, as folds.csv has them.

    Args:
        frame: That of `Folds`.
        sources: Those of a model, of which alone the locked part counts; None: all.
    """
    part = frame[fold_columns(frame)[0]]
    locked = frame[(part == LOCKED) & (True if sources is None else frame["source"].isin(list(sources)))]
    found = [SealedCohort(LOCKED, LOCKED, locked.reset_index(drop=True))] if len(locked) else []
    known = set(frame.loc[part != EXTERNAL, "group"])
    for source, rows in frame[part == EXTERNAL].groupby("source", sort=True):
        apart = rows[~rows["group"].isin(known)].reset_index(drop=True)
        found.append(SealedCohort(str(source), EXTERNAL, apart, len(rows) - len(apart)))
    return found


def require_judgeable(frame: pd.DataFrame, external: Collection[str] = ()) -> None:
    """Raise DatasetError where nothing could be judged on a locked part or on an external source that is asked for."""
    cohorts = {each.name: each for each in sealed_cohorts(frame)}
    for source in external:
        if source not in cohorts:
            there = ", ".join(sorted(frame["source"].unique()))
            raise DatasetError(
                f"cohorts.external names {source}, of which no image is in the benchmark ({there}). Put it into "
                "data.root and data.sources, or take it out of cohorts.external in params.yaml."
            )
    for each in cohorts.values():
        if each.frame["label"].nunique() < 2:
            raise DatasetError(
                f"{sealed_words({each.name: each.counts})[0]}: nothing can be judged without images of both labels. "
                + (
                    "Raise folds.locked in params.yaml, or use more images."
                    if each.part == LOCKED
                    else f"Take {each.name} out of cohorts.external in params.yaml."
                )
            )


def sealed_counts(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """The counts of each cohort that no fold touches, by its name."""
    return {each.name: each.counts for each in sealed_cohorts(frame)}


def sealed_words(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The counts of `sealed_counts` as a line a cohort for people."""
    return [
        f"in no fold: {'the locked part' if name == LOCKED else f'the external source {name}'}, {c['images']} images "
        f"of {c['cases']} cases ({c['malignant']} malignant)"
        + (f"; {c['related']} more are near-duplicates of images that are not external" if c["related"] else "")
        for name, c in counts.items()
    ]
