"""The leakage check: no leakage group and no case may lie in two parts of one fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bus_mlops.dataset.folds import PARTS, Folds
from bus_mlops.errors import DatasetError, LeakageError

if TYPE_CHECKING:
    import pandas as pd


def check_leakage(folds: Folds) -> dict[str, Any]:
    """What was checked: counts of images, cases, groups and of each part of each fold, and overlap 0.

    Raises LeakageError naming the fold, the group or case, its images and their parts.
    """
    frame = folds.frame
    for fold in range(1, folds.count + 1):
        for kind in ("group", "case_id"):
            _require_whole(frame, fold, kind)
    return {
        "images": len(frame),
        "cases": int(frame["case_id"].nunique()),
        "groups": int(frame["group"].nunique()),
        "folds": {f"fold_{fold}": _counts(frame, fold) for fold in range(1, folds.count + 1)},
        "overlap": 0,
    }


def require_current(folds: Folds, manifest: pd.DataFrame, groups: pd.DataFrame) -> None:
    """Raise DatasetError where the folds' own columns differ from the manifest and the audit's groups.

    A csv edited by hand, or one of another audit, could otherwise hide a leak from the check.
    """
    known = manifest.merge(groups, on="image_id").set_index("image_id")
    own = folds.frame.set_index("image_id")
    if set(own.index) != set(known.index):
        image = min(set(own.index) ^ set(known.index))
        raise DatasetError(f"{image} is not both in the folds and in the benchmark. Run `dvc repro folds`.")
    for column in ("source", "label", "case_id", "group"):
        truth = known.loc[own.index, column]
        wrong = own.index[(own[column] != truth).to_numpy()]
        if len(wrong):
            raise DatasetError(
                f"folds: {wrong[0]} has {column} {own.loc[wrong[0], column]!r}, the benchmark and its audit "
                f"say {truth.loc[wrong[0]]!r}. Correct the column, or run `dvc repro --force folds`."
            )


def describe(checked: dict[str, Any]) -> str:
    """What `check_leakage` returned, as lines for people."""
    lines = [
        f"leakage check: {checked['images']} images, {checked['cases']} cases, {checked['groups']} leakage "
        f"groups, {len(checked['folds'])} folds: no group and no case lies in two parts of a fold"
    ]
    for name, parts in checked["folds"].items():
        shares = ", ".join(
            f"{part} {c['images']} images in {c['groups']} groups ({c['malignant_fraction']:.1%} malignant)"
            for part, c in parts.items()
        )
        lines.append(f"  {name}: {shares}")
    return "\n".join(lines)


def _require_whole(frame: pd.DataFrame, fold: int, kind: str) -> None:
    spread = frame.groupby(kind)[f"fold_{fold}"].nunique()
    torn = spread.index[spread > 1]
    if not len(torn):
        return
    name = torn[0]
    rows = frame.loc[frame[kind] == name, ["image_id", f"fold_{fold}"]].to_numpy()
    images = ", ".join(f"{image} ({part})" for image, part in rows[:12])
    more = f" and {len(rows) - 12} more images" if len(rows) > 12 else ""
    what = "leakage group" if kind == "group" else "case"
    raise LeakageError(
        f"fold {fold}: {what} {name!r} lies in more than one part: {images}{more} ({len(torn)} {what}s in "
        "all). Put all images of a group into the same part of each fold, or run `dvc repro --force folds`."
    )


def _counts(frame: pd.DataFrame, fold: int) -> dict[str, dict[str, float]]:
    counts = {}
    for part in PARTS:
        rows = frame[frame[f"fold_{fold}"] == part]
        counts[part] = {
            "images": len(rows),
            "cases": int(rows["case_id"].nunique()),
            "groups": int(rows["group"].nunique()),
            "malignant_fraction": round(float(rows["label"].mean()), 4) if len(rows) else 0.0,
        }
    return counts
