"""Ensembles of recorded rows: the mean of the probabilities that several trainings give the same images of a fold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metrics import mask_metrics

if TYPE_CHECKING:
    import pandas as pd

_IMAGE = ["part", "image_id"]
# What all members must say alike of an image.
_SHARED = ["label", "case_id", "source", "group"]


def averaged(frames: Sequence[pd.DataFrame], title: str) -> pd.DataFrame:
    """The predictions of an ensemble on one fold, from those of its members on it.

    Validation parts are averaged like test parts: thresholds come from them as they do for any row. Masks are not.

    Args:
        frames: Of each member, as a run records them.
        title: What errors call the ensemble.

    Raises:
        EvaluationError: The members were not tested or validated on the same images.
    """
    first = frames[0].sort_values(_IMAGE, ignore_index=True)
    ordered = [first, *(frame.sort_values(_IMAGE, ignore_index=True) for frame in frames[1:])]
    for frame in ordered[1:]:
        if not frame[[*_IMAGE, *_SHARED]].equals(first[[*_IMAGE, *_SHARED]]):
            raise EvaluationError(
                f"{title}, fold {first['fold'].iloc[0]}: its members have other images in their test or validation "
                "part, so their predictions cannot be averaged. Give them the same cohort and the same `validation`."
            )
    probability = np.mean([frame["probability"].to_numpy(np.float64) for frame in ordered], axis=0)
    return first.assign(probability=probability, **dict.fromkeys(mask_metrics(), np.nan))


def joint_fingerprint(fingerprints: Sequence[str]) -> str:
    """64 hexadecimal digits for an ensemble, from those of its members; their order does not matter."""
    return hashlib.sha256(" ".join(sorted(fingerprints)).encode()).hexdigest()
