"""The leakage check: no leakage group and no case may lie in two parts of one fold.

Grouped folds and folds by source stop at a leak. Official, published and image-level folds are known to leak: the check
counts how much, and every run and table bears the counts. There are two, since they mean different things: groups
torn between test and the rest make results too good; groups torn between train and validation alone leave the
tested images unseen, and only make epochs, thresholds and other choices too confident.

A group of the locked part has no image in any fold, whatever the kind: that stops. An image of an external source may
be a near-duplicate of one in the folds; it is left out where that source is judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from bus_mlops.config import IMPORTED_FOLDS
from bus_mlops.dataset.folds.assignment import (
    EXTERNAL,
    LOCKED,
    PARTS,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    Folds,
    fold_columns,
)
from bus_mlops.dataset.folds.sealed import sealed_counts, sealed_words
from bus_mlops.errors import DatasetError, LeakageError

if TYPE_CHECKING:
    import pandas as pd

LEAKING_KINDS = (*IMPORTED_FOLDS, "image-level")
Leaks = Literal["leaks", "validation_leaks"]
# Of each count the part that is looked at, and the parts whose images its images must not be related to.
BORDERS: dict[Leaks, tuple[str, tuple[str, ...]]] = {
    "leaks": (TEST, (TRAIN, VALIDATION)),
    "validation_leaks": (VALIDATION, (TRAIN,)),
}
_SHOWN = 20


def check_leakage(folds: Folds, tolerate: bool = False) -> dict[str, Any]:
    """Count images, cases, groups, those of each part of each fold, and the leaks.

    Args:
        folds: Of any kind.
        tolerate: Report leaks instead of raising.

    Returns:
        Among others `sealed`, the counts of what no fold touches, where there is any; `leaks`, the number of groups
        that in at least one fold have test images and others, `leaking_cases`, that of cases, and
        `exposed_test_images`, that of test images whose group also has images in the train or validation part;
        `validation_leaks`, `validation_leaking_cases` and `exposed_validation_images` are the same between validation
        and train.

    Raises:
        LeakageError: Names the fold, the group or case, its images and their parts.
    """
    frame = folds.frame
    for kind in ("group", "case_id"):
        _require_locked_apart(frame, kind)
    if not tolerate:
        for fold in range(1, folds.count + 1):
            for kind in ("group", "case_id"):
                _require_whole(frame, fold, kind, folds.kind)
    counts: dict[str, int] = {}
    for count, (part, _) in BORDERS.items():
        counts[count] = len(leaking(frame, count=count))
        counts[count.replace("leaks", "leaking_cases")] = len(leaking(frame, "case_id", count=count))
        counts[f"exposed_{part}_images"] = sum(_exposed(frame, column, count) for column in fold_columns(frame))
    return {
        "kind": folds.kind,
        "images": len(frame),
        "cases": int(frame["case_id"].nunique()),
        "groups": int(frame["group"].nunique()),
        **counts,
        "leaking_groups": sorted(leaking(frame))[:_SHOWN],
        "folds": {column: _counts(frame, column) for column in fold_columns(frame)},
        **({"sealed": sealed} if (sealed := sealed_counts(frame)) else {}),
    }


def leaking(
    frame: pd.DataFrame, kind: str = "group", sources: Iterable[str] | None = None, count: Leaks = "leaks"
) -> set[str]:
    """The groups (or cases, kind `case_id`) on both sides of a border of a fold, among the images of `sources`.

    Images that a fold leaves unused cannot leak in it. Works on any frame with columns source, `kind`, fold_k.
    """
    chosen = frame if sources is None else frame[frame["source"].isin(list(sources))]
    part, others = BORDERS[count]
    found: set[str] = set()
    for column in fold_columns(chosen):
        seen = set(chosen.loc[chosen[column].isin(others), kind])
        found |= seen & set(chosen.loc[chosen[column] == part, kind])
    return found


def exposed_images(frame: pd.DataFrame, sources: Iterable[str], count: Leaks = "leaks") -> int:
    """How many images of some sources have a relative of their group across a border, over all folds."""
    chosen = frame[frame["source"].isin(list(sources))]
    return sum(_exposed(chosen, column, count) for column in fold_columns(chosen))


def leak_counts(frame: pd.DataFrame, sources: Iterable[str], divided_anew: bool = False) -> dict[Leaks, int]:
    """Both counts of torn groups among the images of some sources.

    Args:
        frame: That of `Folds`.
        sources: Those of a cohort.
        divided_anew: What a fold trains and validates on is divided anew (`division.parts_of`), groups whole.
    """
    chosen = list(sources)
    counts = {count: len(leaking(frame, sources=chosen, count=count)) for count in BORDERS}
    return {**counts, "validation_leaks": 0} if divided_anew else counts


def leak_tags(frame: pd.DataFrame, sources: Iterable[str], divided_anew: bool = False) -> dict[str, str]:
    """What every run on those sources is tagged with: `leaks: 0 groups`, `validation_leaks: 35 groups`."""
    counts = leak_counts(frame, sources, divided_anew)
    return {name: f"{n} group{'' if n == 1 else 's'}" for name, n in counts.items()}


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
    size = f"{checked['images']} images, {checked['cases']} cases, {checked['groups']} leakage groups"
    found = []
    if checked["leaks"] or checked["leaking_cases"]:
        found.append(
            f"LEAKS: {checked['leaks']} groups and {checked['leaking_cases']} cases lie in the test part of a fold and "
            f"in its train or validation part; {checked['exposed_test_images']} test images have such a relative"
        )
    if checked["validation_leaks"] or checked["validation_leaking_cases"]:
        found.append(
            f"{checked['validation_leaks']} groups and {checked['validation_leaking_cases']} cases lie in train and "
            f"validation of a fold; {checked['exposed_validation_images']} validation images have a relative in train, "
            "which no test image meets"
        )
    what = "; ".join(found) or "no group and no case lies in two parts of a fold"
    lines = [f"{checked['kind']} folds: {size}, {len(checked['folds'])} folds: {what}"]
    for name, parts in checked["folds"].items():
        shares = ", ".join(
            f"{part} {c['images']} images in {c['groups']} groups ({100 * c['malignant_fraction']:.1f} % malignant)"
            for part, c in parts.items()
            if c["images"] or part != UNUSED
        )
        lines.append(f"  {name}: {shares}")
    return "\n".join([*lines, *(f"  {words}" for words in sealed_words(checked.get("sealed", {})))])


def _torn(frame: pd.DataFrame, column: str, kind: str) -> list[str]:
    used = frame[~frame[column].isin([UNUSED, EXTERNAL])]
    spread = used.groupby(kind)[column].nunique()
    return [str(name) for name in spread.index[spread > 1]]


def _exposed(frame: pd.DataFrame, column: str, count: Leaks) -> int:
    part, others = BORDERS[count]
    seen = frame.loc[frame[column].isin(others), "group"]
    return int(((frame[column] == part) & frame["group"].isin(seen)).sum())


def _require_whole(frame: pd.DataFrame, fold: int, kind: str, folds_kind: str) -> None:
    column = f"fold_{fold}"
    torn = _torn(frame, column, kind)
    if not torn:
        return
    name = torn[0]
    of_fold = ~frame[column].isin([UNUSED, EXTERNAL])
    rows = frame.loc[(frame[kind] == name) & of_fold, ["image_id", column]].to_numpy()
    images = ", ".join(f"{image} ({part})" for image, part in rows[:12])
    more = f" and {len(rows) - 12} more images" if len(rows) > 12 else ""
    what = "leakage group" if kind == "group" else "case"
    remedy = (
        f"Folds of kind {folds_kind} leak by their nature: set folds.kind to grouped in params.yaml."
        if folds_kind in LEAKING_KINDS
        else "Put all images of a group into the same part of each fold, or run `dvc repro --force folds`."
    )
    raise LeakageError(
        f"fold {fold}: {what} {name!r} lies in more than one part: {images}{more} ({len(torn)} {what}s in "
        f"all). {remedy}"
    )


def _require_locked_apart(frame: pd.DataFrame, kind: str) -> None:
    columns = fold_columns(frame)
    locked = frame[columns[0]] == LOCKED
    met = frame[frame[columns].isin(PARTS).any(axis=1) & frame[kind].isin(frame.loc[locked, kind])]
    if met.empty:
        return
    first = met.iloc[0]
    other = frame.loc[locked & (frame[kind] == first[kind]), "image_id"].iloc[0]
    what = "leakage group" if kind == "group" else "case"
    raise LeakageError(
        f"{what} {first[kind]!r} is in the locked part and in folds: {other} is locked, {first['image_id']} is not "
        f"({met[kind].nunique()} {what}s in all). Lock all images of a group or none, or run `dvc repro --force folds`."
    )


def _counts(frame: pd.DataFrame, column: str) -> dict[str, dict[str, float]]:
    counts = {}
    for part in (*PARTS, UNUSED):
        rows = frame[frame[column] == part]
        counts[part] = {
            "images": len(rows),
            "cases": int(rows["case_id"].nunique()),
            "groups": int(rows["group"].nunique()),
            "malignant_fraction": round(float(rows["label"].mean()), 4) if len(rows) else 0.0,
        }
    return counts
