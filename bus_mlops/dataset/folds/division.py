"""The parts of a fold as a network or a trial sees them, which may divide anew what a fold trains and validates on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.dataset.folds.assignment import TRAIN, VALIDATION
from bus_mlops.dataset.folds.partition import group_features, partition
from bus_mlops.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bus_mlops.spec import Inner


def parts_of(
    frame: pd.DataFrame, fold: int, sources: Iterable[str], validation: float | None, inner: Inner | None = None
) -> pd.Series:
    """The part of each image of some sources in a fold, what it trains and validates on divided anew if asked for.

    Divided anew, groups stay whole and sources and labels balanced, as in grouped folds, whatever the folds' own kind.
    The division follows from these sources' rows, fold and fraction (or number of inner folds) alone: neither from
    other images nor from order. The test part is never touched.

    Args:
        frame: That of `Folds`.
        fold: 1-based.
        sources: Those of a cohort.
        validation: The fraction of the groups that validates; None for the folds' own division.
        inner: The inner fold whose part validates, whatever `validation` says.

    Returns:
        image_id -> `train`, `validation`, `test` or `unused`.

    Raises:
        DatasetError: A part that is divided anew would lack one of the labels.
    """
    ours = frame[frame["source"].isin(list(sources))].sort_values("image_id")
    parts = ours.set_index("image_id")[f"fold_{fold}"].copy()
    divided = parts.isin([TRAIN, VALIDATION])
    if not divided.any():
        return parts
    rows = ours[divided.to_numpy()].reset_index(drop=True)
    if inner is not None:
        parts[divided] = _inner(rows, fold, inner)
    elif validation is not None:
        parts[divided] = _divided(rows, fold, validation)
    return parts


def _inner(frame: pd.DataFrame, fold: int, inner: Inner) -> NDArray[np.object_]:
    features, of_row = group_features(frame)
    shares = [1 / inner.count] * inner.count
    part = partition(features, shares, np.random.default_rng([fold, inner.count]))[of_row]
    for number in range(inner.count):  # of all of them: a search needs every one
        labels = frame.loc[part == number, "label"]
        if labels.nunique() < 2:
            raise DatasetError(
                f"inner fold {number + 1} of {inner.count} of fold {fold} would validate on {len(labels)} images of "
                f"{labels.nunique()} of the 2 labels. Lower inner_folds in params.yaml, or use more images."
            )
    return np.where(part == inner.fold - 1, VALIDATION, TRAIN).astype(object)


def _divided(frame: pd.DataFrame, fold: int, validation: float) -> NDArray[np.object_]:
    features, of_row = group_features(frame)
    kept = partition(features, [1 - validation, validation], np.random.default_rng(fold))
    parts = np.where(kept[of_row] == 1, VALIDATION, TRAIN).astype(object)
    for part in (TRAIN, VALIDATION):
        labels = frame.loc[parts == part, "label"]
        if labels.nunique() < 2:
            raise DatasetError(
                f"the {part} part of fold {fold}, divided anew with validation {validation:g}, would hold "
                f"{len(labels)} images of {labels.nunique()} of the 2 labels. Bring `validation` of the network nearer "
                "to that of `folds` in params.yaml, or use more images."
            )
    return parts
