"""`Folds`: which part of each fold an image is in, as a csv that people can read and replace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.config import IMPORTED_FOLDS
from bus_mlops.dataset.stage_csv import read_stage_csv
from bus_mlops.errors import DatasetError
from bus_mlops.files import read_json

if TYPE_CHECKING:
    import pandas as pd

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)
# In no part of a fold: imported folds leave images out, folds by source or device set aside what would leak.
UNUSED = "unused"
# In every fold column, since no fold touches them: what only a frozen model is judged on, once.
LOCKED, EXTERNAL = "locked", "external"
SEALED = (LOCKED, EXTERNAL)
KINDS = ("grouped", "official", "published", "image-level", "source", "device")
LEADING = ["image_id", "source", "label", "case_id", "group"]


def fold_columns(frame: pd.DataFrame) -> list[str]:
    """The columns fold_1 .. fold_K of a folds frame."""
    return [name for name in frame.columns if name.startswith("fold_")]


@dataclass(frozen=True)
class Folds:
    """A fold assignment as stored in `folds.csv`, and its kind from `folds.json` beside it."""

    frame: pd.DataFrame = field(repr=False)
    count: int
    kind: str = "grouped"

    @classmethod
    def open(cls, path: Path, images: Iterable[str] | None = None) -> Folds:
        """Read and validate a csv, which may have been edited by hand; without folds.json it counts as grouped.

        Args:
            path: The folds.csv.
            images: The benchmark's image ids; with them also that exactly those are assigned.

        Raises:
            DatasetError: Names the image and the column.
        """
        frame = read_stage_csv(path, "folds")
        return cls.checked(frame, str(path), images, _kind(path.with_suffix(".json")))

    @classmethod
    def checked(
        cls, frame: pd.DataFrame, where: str, images: Iterable[str] | None = None, kind: str = "grouped"
    ) -> Folds:
        """A frame as folds, after checking columns, parts, and that every image is tested exactly once.

        Imported folds may leave an image untested, but no folds may test it twice. A locked or external image is in no
        part of any fold.

        Args:
            frame: In the layout of folds.csv.
            where: What errors call it.
            images: The benchmark's image ids; with them also that exactly those are assigned.
            kind: One of `folds.kind`.

        Raises:
            DatasetError: Names the image and the column.
        """
        names = fold_columns(frame)
        expected = LEADING + [f"fold_{k}" for k in range(1, len(names) + 1)]
        if list(frame.columns) != expected or len(names) < 2:
            raise DatasetError(f"{where} has the columns {list(frame.columns)}, expected {expected}.")
        _check_rows(frame, names, where, at_least=0 if kind in IMPORTED_FOLDS else 1)
        if images is not None:
            _check_images(set(frame["image_id"]), set(images), where)
        return cls(frame.assign(label=frame["label"].astype("int64")), len(names), kind)

    def parts(self, fold: int) -> pd.Series:
        """image_id -> `train`, `validation`, `test`, `unused`, `locked` or `external` in a fold, counted from 1."""
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


def _kind(path: Path) -> str:
    try:
        kind = read_json(path)["kind"]
    except FileNotFoundError:
        return "grouped"
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DatasetError(f"{path} cannot be read: {error!r}. Run `dvc repro --force folds`.") from error
    if kind not in KINDS:
        raise DatasetError(f"{path}: kind must be one of {', '.join(KINDS)} but got {kind!r}.")
    return str(kind)


def _check_rows(frame: pd.DataFrame, names: Sequence[str], where: str, at_least: int) -> None:
    twice = frame.loc[frame["image_id"].duplicated(), "image_id"]
    if len(twice):
        raise DatasetError(f"{where}: {twice.iloc[0]} is listed more than once. Keep one row.")
    for column, allowed in {"label": ("0", "1"), **dict.fromkeys(names, (*PARTS, UNUSED, *SEALED))}.items():
        wrong = frame.loc[~frame[column].astype(str).isin(allowed)]
        if len(wrong):
            row = wrong.iloc[0]
            raise DatasetError(
                f"{where}: {row['image_id']} has {column} = {row[column]!r}, allowed: {', '.join(allowed)}."
            )
    empty = frame.loc[frame["group"].isna() | (frame["group"] == ""), "image_id"]
    if len(empty):
        raise DatasetError(f"{where}: {empty.iloc[0]} has no group. Take it from groups.csv.")
    sealed = _require_sealed(frame, names, where)
    tested = (frame[list(names)] == TEST).sum(axis=1)
    wrong = frame.loc[(tested > 1) | ((tested < at_least) & ~sealed)]
    if len(wrong):
        times = int(tested.loc[wrong.index[0]])
        raise DatasetError(
            f"{where}: {wrong.iloc[0]['image_id']} is in the test part of {times} folds; every image must "
            f"be in {'exactly' if at_least else 'at most'} one."
        )


def _require_sealed(frame: pd.DataFrame, names: Sequence[str], where: str) -> pd.Series:
    """Which rows are sealed; raise where one is so in some folds only."""
    sealed = frame[list(names)].isin(SEALED).any(axis=1)
    torn = frame.loc[sealed & (frame[list(names)].nunique(axis=1) > 1)]
    if len(torn):
        row = torn.iloc[0]
        parts = ", ".join(str(row[name]) for name in names)
        raise DatasetError(
            f"{where}: {row['image_id']} is {parts}: what is locked or external in one fold must be so in every one. "
            "Run `dvc repro --force folds`."
        )
    return sealed


def _check_images(listed: set[str], images: set[str], where: str) -> None:
    if unknown := listed - images:
        raise DatasetError(f"{where}: {min(unknown)} is not in the benchmark. Take its row out.")
    if missing := images - listed:
        raise DatasetError(f"{where}: {min(missing)} of the benchmark is missing ({len(missing)} in all). Add it.")
