"""What is wrong with imported folds, counted against our own manifest and audit; nothing is repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bus_mlops.dataset.folds.assignment import PARTS, TEST, TRAIN, VALIDATION
from bus_mlops.dataset.folds.leakage import BORDERS, Leaks

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 12
_LABELS = ("benign", "malignant")
# [paper, section 4: 20 % of the training cases validate]
_VALIDATION = 0.2


def defects(
    matched: pd.DataFrame,
    manifest: pd.DataFrame,
    groups: pd.DataFrame,
    sources: Iterable[str],
    kind: str = "official",
) -> dict[str, Any]:
    """Everything to be known about the imported rows before they are used.

    Args:
        matched: The rows as `official_folds.match` returns them.
        manifest: The benchmark's images.
        groups: The audit's (image_id, group).
        sources: All that the folds may name; those without an image here explain names that match none.
        kind: `official` or `published`.

    Returns:
        Counts, and fractions between 0 and 1; `fold_1` and so on key what is said of each fold.
    """
    known = manifest.merge(groups, on="image_id")[["image_id", "source", "label", "case_id", "group"]]
    found = matched[matched["image_id"] != ""].merge(known, on="image_id", suffixes=("_official", ""))
    # an image named twice in one part counts once from here on
    single = found.drop_duplicates(["fold", "part", "image_id"])
    folds = {f"fold_{fold}": rows for fold, rows in single.groupby("fold")}
    tested = Counter(single.loc[single["part"] == TEST, "image_id"])
    never = known[~known["image_id"].isin(tested)]
    return {
        "kind": kind,
        "rows": len(matched),
        "names": int(matched["name"].nunique()),
        "images": len(known),
        "images_named": int(single["image_id"].nunique()),
        "sources_absent": sorted(set(sources) - set(manifest["source"])),
        **_names(matched, manifest),
        "never_tested": sorted(never["image_id"]),
        "never_tested_counts": _by_source_and_label(never),
        "tested_more_than_once": sorted(image for image, times in tested.items() if times > 1),
        "in_no_part": {fold: sorted(set(known["image_id"]) - set(rows["image_id"])) for fold, rows in folds.items()},
        "in_several_parts": {fold: _several(rows, "image_id") for fold, rows in folds.items()},
        "listed_twice": sorted(set(found.loc[found.duplicated(["fold", "part", "image_id"]), "image_id"])),
        "labels_against_source": _labels(single),
        "cases_in_several_parts": {fold: _several(rows, "case_id") for fold, rows in folds.items()},
        "groups_in_several_parts": {fold: _several(rows, "group") for fold, rows in folds.items()},
        **{count: {fold: _across(rows, count) for fold, rows in folds.items()} for count in BORDERS},
        "validation_share": {fold: _validation(rows) for fold, rows in folds.items()},
        "balance": {fold: _balance(rows) for fold, rows in folds.items()},
    }


def describe(found: dict[str, Any]) -> str:
    """The defects as lines for people, those that matter first; long lists are cut and say so."""
    lines = [
        f"{found.get('kind', 'official')} folds: {found['rows']} rows name {found['names']} images; "
        f"{found['images_named']} of the {found['images']} images of the benchmark are among them"
    ]
    if found["sources_absent"]:
        lines.append(f"  not in the benchmark, so their names match nothing: {', '.join(found['sources_absent'])}")
    lines += _line("names that match no image", found["names_matching_none"])
    lines += _line("names without their leading zeros (saved by a spreadsheet?)", found["names_without_zeros"])
    several = [f"{name} ({', '.join(images)})" for name, images in found["names_matching_several"].items()]
    lines += _line("names that match several images, so none is taken", several)
    lines += _line("images never tested", found["never_tested"])
    lines += _line("images tested in more than one fold", found["tested_more_than_once"])
    lines += _line("images listed twice in one part", found["listed_twice"])
    labels = [
        f"{each['image_id']} ({each['official']}, source: {each['source']})" for each in found["labels_against_source"]
    ]
    lines += _line("labels against the source, whose label is used", labels)
    for key, what in (
        ("in_no_part", "images in no part"),
        ("in_several_parts", "images in more than one part"),
        ("cases_in_several_parts", "cases in more than one part"),
        ("leaks", "groups of near-duplicates or cases in test and in train or validation"),
        ("validation_leaks", "groups of near-duplicates or cases in train and validation"),
    ):
        for fold, names in found[key].items():
            lines += _line(f"{_title(fold)}: {what}", names)
    paper = f" (the paper says {_VALIDATION:.0%})" if found.get("kind", "official") == "official" else ""
    for fold, share in found["validation_share"].items():
        lines.append(
            f"  {_title(fold)}: validation is {share['cases']:.1%} of the training cases, {share['images']:.1%} of the "
            f"images{paper}; malignant: "
            + ", ".join(f"{part} {found['balance'][fold][part]['malignant_fraction']:.1%}" for part in PARTS)
        )
    return "\n".join(lines)


def _title(fold: str) -> str:
    return fold.replace("_", " ")


def _line(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [f"  {what}: {len(names)}: {shown}"]


def _names(matched: pd.DataFrame, manifest: pd.DataFrame) -> dict[str, Any]:
    images = dict(zip(matched["name"], matched["candidates"], strict=True))
    none = sorted(name for name, candidates in images.items() if not candidates)
    bare = {name.lstrip("0") for name in manifest["name"] if name.startswith("0")}
    return {
        "names_matching_none": none,
        "names_without_zeros": sorted(bare.intersection(none)),
        "names_matching_several": {name: found for name, found in sorted(images.items()) if len(found) > 1},
    }


def _several(rows: pd.DataFrame, key: str) -> list[str]:
    """The values of a column that lie in more than one part of a fold."""
    parts = rows.groupby(key)["part"].nunique()
    return sorted(str(name) for name in parts.index[parts > 1])


def _across(rows: pd.DataFrame, count: Leaks) -> list[str]:
    """The groups on both sides of a border of a fold."""
    part, others = BORDERS[count]
    seen = set(rows.loc[rows["part"].isin(others), "group"])
    return sorted(seen & set(rows.loc[rows["part"] == part, "group"]))


def _labels(rows: pd.DataFrame) -> list[dict[str, str]]:
    wrong = rows[rows["label_official"] != rows["label"]].drop_duplicates("image_id").sort_values("image_id")
    return [
        {"image_id": image, "official": _LABELS[official], "source": _LABELS[source]}
        for image, official, source in zip(wrong["image_id"], wrong["label_official"], wrong["label"], strict=True)
    ]


def _validation(rows: pd.DataFrame) -> dict[str, float]:
    training = rows[rows["part"].isin([TRAIN, VALIDATION])]
    validating = training[training["part"] == VALIDATION]
    cases = max(1, training["case_id"].nunique())
    return {
        "images": round(len(validating) / max(1, len(training)), 4),
        "cases": round(validating["case_id"].nunique() / cases, 4),
    }


def _balance(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    parts = {}
    for part in PARTS:
        chosen = rows[rows["part"] == part]
        parts[part] = {
            "images": len(chosen),
            "cases": int(chosen["case_id"].nunique()),
            "malignant_fraction": round(float(chosen["label"].mean()), 4) if len(chosen) else 0.0,
            "sources": _by_source_and_label(chosen),
        }
    return parts


def _by_source_and_label(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for source, mine in rows.groupby("source"):
        sizes = mine["label"].value_counts()
        counts[str(source)] = {word: int(sizes.get(label, 0)) for label, word in enumerate(_LABELS)}
    return counts
