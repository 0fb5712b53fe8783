"""Cross-validation folds: leakage groups stay whole, sources and labels are balanced; a csv for people.

Every block of sources that share no group is split by itself, with its own random numbers: adding or removing
a source leaves the folds of the others as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.quality import components
from bus_mlops.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)
_PASSES = 5
_TINY = 1e-12
_LEADING = ["image_id", "source", "label", "case_id", "group"]


def make_folds(manifest: pd.DataFrame, groups: pd.DataFrame, config: FoldsConfig, seed: int) -> pd.DataFrame:
    """The folds frame: image_id, source, label, case_id, group, and the part of each image in each fold.

    Every image is in the test part of exactly one fold; `config.validation` is the fraction of a fold's
    training groups that validate. The result depends on the seed, never on the order of the rows.
    Raises DatasetError when an image has no group or a part of a fold would lack one of the labels.
    """
    frame = _joined(manifest, groups)
    columns = {fold: np.full(len(frame), TRAIN, dtype=object) for fold in range(1, config.count + 1)}
    for sources in _blocks(frame):
        rows = np.flatnonzero(frame["source"].isin(sources).to_numpy())
        features, of_row = _features(frame.iloc[rows])
        rng = np.random.default_rng(_seed(seed, sources))
        tested = partition(features, [1 / config.count] * config.count, rng)
        for fold, parts in columns.items():
            training = np.flatnonzero(tested != fold - 1)
            kept = partition(features[training], [1 - config.validation, config.validation], rng)
            by_group = np.full(len(features), TEST, dtype=object)
            by_group[training] = np.where(kept == 1, VALIDATION, TRAIN)
            parts[rows] = by_group[of_row]
    for fold, parts in columns.items():
        frame[f"fold_{fold}"] = parts.astype(str)
    _require_both_labels(frame, config.count)
    return frame


def partition(features: NDArray[np.float64], fractions: Sequence[float], rng: np.random.Generator) -> NDArray[np.int64]:
    """Share groups out so that every feature's total comes close to the given fractions in each part.

    `features` is (groups, features), e.g. the number of malignant images of a source. The cost is the sum over
    parts and features of c^2 / (fraction T^2), with c the part's and T the overall total: minimal where every
    c is fraction x T. Largest groups first, each goes where it costs least, ties broken at random; then groups
    are moved and swapped while that lowers the cost. Returns the part of each group, from 0.
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


def _joined(manifest: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    frame = manifest[_LEADING[:-1]].merge(groups[["image_id", "group"]], on="image_id", how="left")
    bare = frame.loc[frame["group"].isna(), "image_id"]
    if len(bare) or len(frame) != len(manifest):
        what = f"{bare.iloc[0]} has no leakage group" if len(bare) else "an image has several leakage groups"
        raise DatasetError(f"{what}: the audit does not fit the benchmark. Run `dvc repro audit`.")
    return frame.sort_values("image_id", kind="stable", ignore_index=True)


def _blocks(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Sources that share a group belong together; all others stand alone."""
    sources = sorted(frame["source"].unique())
    place = {source: i for i, source in enumerate(sources)}
    links = []
    for together in frame.groupby("group")["source"].unique():
        links += [(place[together[0]], place[other]) for other in together[1:]]
    roots = components(len(sources), links)
    return [tuple(s for s, r in zip(sources, roots, strict=True) if r == root) for root in np.unique(roots)]


def _features(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
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
        for value in np.unique(key):
            columns.append(np.bincount(of_row[key == value], minlength=len(names)).astype(float))
    return np.stack(columns, axis=1), of_row


def _seed(seed: int, sources: tuple[str, ...]) -> list[int]:
    digest = hashlib.sha256("+".join(sources).encode()).digest()
    return [seed, int.from_bytes(digest[:8], "big")]


def _require_both_labels(frame: pd.DataFrame, count: int) -> None:
    for fold in range(1, count + 1):
        for part in PARTS:
            labels = frame.loc[frame[f"fold_{fold}"] == part, "label"]
            if labels.nunique() < 2:
                raise DatasetError(
                    f"the {part} part of fold {fold} would hold {len(labels)} images of "
                    f"{labels.nunique()} of the 2 labels. Use fewer folds (folds.count in params.yaml) or "
                    "more images."
                )


@dataclass(frozen=True)
class Folds:
    """A fold assignment as stored in `folds.csv`."""

    frame: pd.DataFrame = field(repr=False)
    count: int

    @classmethod
    def open(cls, path: Path, images: Iterable[str] | None = None) -> Folds:
        """Read and validate a csv, which may have been edited by hand.

        With `images` (the benchmark's image ids) also that exactly those are assigned. Raises DatasetError
        naming the image and the column.
        """
        import pandas as pd

        try:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            raise DatasetError(f"{path} not found. Run `dvc repro folds`.") from None
        except (ValueError, OSError) as error:
            raise DatasetError(f"{path} cannot be read: {error}. Run `dvc repro folds`.") from error
        return cls.checked(frame, str(path), images)

    @classmethod
    def checked(cls, frame: pd.DataFrame, where: str, images: Iterable[str] | None = None) -> Folds:
        """A frame as folds, after checking columns, parts, and that every image is tested exactly once."""
        names = [name for name in frame.columns if name.startswith("fold_")]
        expected = _LEADING + [f"fold_{k}" for k in range(1, len(names) + 1)]
        if list(frame.columns) != expected or len(names) < 2:
            raise DatasetError(f"{where} has the columns {list(frame.columns)}, expected {expected}.")
        _check_rows(frame, names, where)
        if images is not None:
            _check_images(set(frame["image_id"]), set(images), where)
        return cls(frame.assign(label=frame["label"].astype("int64")), len(names))

    def parts(self, fold: int) -> pd.Series:
        """image_id -> `train`, `validation` or `test` of a fold, counted from 1."""
        if not 1 <= fold <= self.count:
            raise DatasetError(f"fold must lie between 1 and {self.count} but got {fold}.")
        return self.frame.set_index("image_id")[f"fold_{fold}"]

    def digest(self, image_ids: Iterable[str]) -> str:
        """sha256 over the sorted rows (image, group, parts) of those images: what a training depends on."""
        wanted = set(image_ids)
        columns = ["image_id", "group", *(f"fold_{k}" for k in range(1, self.count + 1))]
        rows = sorted(row for row in self.frame[columns].to_numpy().tolist() if row[0] in wanted)
        absent = wanted - {row[0] for row in rows}
        if absent:
            raise DatasetError(f"{min(absent)} has no folds. Run `dvc repro folds`.")
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _check_rows(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    twice = frame.loc[frame["image_id"].duplicated(), "image_id"]
    if len(twice):
        raise DatasetError(f"{where}: {twice.iloc[0]} is listed more than once. Keep one row.")
    for column, allowed in {"label": ("0", "1"), **dict.fromkeys(names, PARTS)}.items():
        wrong = frame.loc[~frame[column].astype(str).isin(allowed)]
        if len(wrong):
            row = wrong.iloc[0]
            raise DatasetError(
                f"{where}: {row['image_id']} has {column} = {row[column]!r}, allowed: {', '.join(allowed)}."
            )
    empty = frame.loc[frame["group"] == "", "image_id"]
    if len(empty):
        raise DatasetError(f"{where}: {empty.iloc[0]} has no group. Take it from groups.csv.")
    tested = (frame[list(names)] == TEST).sum(axis=1)
    wrong = frame.loc[tested != 1]
    if len(wrong):
        times = int(tested.loc[wrong.index[0]])
        raise DatasetError(
            f"{where}: {wrong.iloc[0]['image_id']} is in the test part of {times} folds; every image must "
            "be in exactly one."
        )


def _check_images(listed: set[str], images: set[str], where: str) -> None:
    if unknown := listed - images:
        raise DatasetError(f"{where}: {min(unknown)} is not in the benchmark. Take its row out.")
    if missing := images - listed:
        raise DatasetError(f"{where}: {min(missing)} of the benchmark is missing ({len(missing)} in all). Add it.")
