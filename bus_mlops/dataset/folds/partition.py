"""Sharing groups out among parts so that counts by source and label come close to given fractions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

_PASSES = 5
_TINY = 1e-12


def partition(features: NDArray[np.float64], fractions: Sequence[float], rng: np.random.Generator) -> NDArray[np.int64]:
    """Share groups out so that every feature's total comes close to the given fractions in each part.

    The cost is the sum over parts and features of c^2 / (fraction T^2), with c the part's and T the overall total:
    minimal where every c is fraction x T. Largest groups first, each goes where it costs least, ties broken at
    random; then groups are moved and swapped while that lowers the cost.

    Args:
        features: (groups, features), e.g. the number of malignant images of a source.
        fractions: Of each part, together 1.
        rng: Breaks ties.

    Returns:
        The part of each group, from 0.
    """
    totals = features.sum(axis=0)
    scaled = features / np.where(totals > 0, totals, 1)
    shares = np.asarray(fractions, dtype=np.float64)
    held = np.zeros((len(shares), features.shape[1]))
    order = rng.permutation(len(features))
    order = order[np.argsort(-features[order].max(axis=1, initial=0), kind="stable")]
    parts = np.zeros(len(features), dtype=np.int64)
    for group in order:
        cost = ((2 * held * scaled[group] + scaled[group] ** 2).sum(axis=1)) / shares
        part = int(rng.choice(np.flatnonzero(cost <= cost.min() + _TINY)))
        parts[group] = part
        held[part] += scaled[group]
    for _ in range(_PASSES):
        if not sum(_improve(int(group), scaled, shares, parts, held) for group in order):
            break
    return parts


def _improve(
    group: int,
    scaled: NDArray[np.float64],
    shares: NDArray[np.float64],
    parts: NDArray[np.int64],
    held: NDArray[np.float64],
) -> bool:
    """Make the one move of a group, or swap with a group of another part, that lowers the cost most."""
    here = int(parts[group])
    # a move is a swap with nothing: one empty partner for each part
    partners = np.concatenate([scaled, np.zeros((len(shares), scaled.shape[1]))])
    places = np.concatenate([parts, np.arange(len(shares))])
    given = scaled[group] - partners
    change = ((given**2 - 2 * given * held[here]) / shares[here]).sum(axis=1)
    change += ((given**2 + 2 * given * held[places]) / shares[places][:, None]).sum(axis=1)
    change[places == here] = 0
    best = int(change.argmin())
    if change[best] > -_TINY:
        return False
    there = int(places[best])
    held[here] -= given[best]
    held[there] += given[best]
    if best < len(parts):
        parts[best] = here
    parts[group] = there
    return True


def group_features(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(groups, features): 1, and counts of images, by label, source and both; then the group of each row."""
    names, of_row = np.unique(frame["group"].to_numpy(dtype=str), return_inverse=True)
    keys = [np.array(["images"] * len(frame)), frame["label"].astype(str).to_numpy(dtype=str)]
    if frame["source"].nunique() > 1:
        keys += [
            frame["source"].to_numpy(dtype=str),
            (frame["source"] + frame["label"].astype(str)).to_numpy(str),
        ]
    columns = [np.ones(len(names))]
    for key in keys:
        columns += [np.bincount(of_row[key == value], minlength=len(names)).astype(float) for value in np.unique(key)]
    return np.stack(columns, axis=1), of_row
