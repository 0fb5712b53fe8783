"""Exclusions: which images the audit advises to leave out and why, and the choice that params.yaml makes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bus_mlops.dataset.folds.assignment import EXTERNAL
from bus_mlops.dataset.stage_csv import read_stage_csv
from bus_mlops.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

Exclude = Literal["none", "conflicts", "duplicates"]
COLUMNS = ("image_id", "reason", "group")
# What `audit.exclude` may ask for -> the reason in the list that it takes up.
REASONS = {"conflicts": "conflict", "duplicates": "duplicate"}


def list_exclusions(
    manifest: pd.DataFrame, clusters: pd.DataFrame, groups: pd.DataFrame, external: Collection[str] = ()
) -> pd.DataFrame:
    """Rows (image_id, reason, group), sorted; an image may be there for either reason or for both.

    `conflict`: every image of a near-duplicate cluster that holds both labels, since the pixels cannot say
    which label is right. `duplicate`: all images of a cluster but the one with the most pixels (among equals
    the first by id), whose label is kept as it is.

    Images of `external` sources and all others are looked at apart: what is trained on does not depend on the former.
    """
    import pandas as pd

    frame = manifest.merge(clusters, on="image_id").merge(groups, on="image_id")
    frame["cluster"] += np.where(frame["source"].isin(list(external)), f" {EXTERNAL}", "")
    frame = frame[frame.groupby("cluster")["image_id"].transform("size") > 1]
    mixed = frame[frame.groupby("cluster")["label"].transform("nunique") > 1]
    area = frame["width"] * frame["height"]
    ordered = frame.assign(area=-area).sort_values(["cluster", "area", "image_id"])
    spare = ordered[ordered["cluster"].duplicated()]
    rows = pd.concat([mixed.assign(reason="conflict"), spare.assign(reason="duplicate")])
    return rows[list(COLUMNS)].sort_values(["reason", "group", "image_id"], ignore_index=True)


def read_exclusions(path: Path) -> pd.DataFrame:
    """The frame of an exclusions.csv.

    Raises:
        DatasetError: It is missing or malformed.
    """
    frame = read_stage_csv(path, "audit")
    if tuple(frame.columns) != COLUMNS:
        raise DatasetError(f"{path} has the columns {list(frame.columns)}, expected {list(COLUMNS)}.")
    wrong = frame.loc[~frame["reason"].isin(REASONS.values())]
    if len(wrong):
        row = wrong.iloc[0]
        allowed = ", ".join(REASONS.values())
        raise DatasetError(f"{path}: {row['image_id']} has reason {row['reason']!r}, allowed: {allowed}.")
    return frame


def kept(manifest: pd.DataFrame, exclusions: pd.DataFrame, exclude: Exclude) -> pd.DataFrame:
    """The manifest's rows that `audit.exclude` leaves; `none` leaves all, whatever the list says.

    Raises:
        DatasetError: The list names an image that is not in the manifest.
    """
    unknown = set(exclusions["image_id"]) - set(manifest["image_id"])
    if unknown:
        raise DatasetError(
            f"the exclusion list names {min(unknown)}, which is not in the benchmark. Run `dvc repro audit`."
        )
    if exclude == "none":
        return manifest
    out = exclusions.loc[exclusions["reason"] == REASONS[exclude], "image_id"]
    left: pd.DataFrame = manifest[~manifest["image_id"].isin(out)]
    return left


def count_excluded(manifest: pd.DataFrame, exclusions: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many images each choice would leave out, by source: {"conflicts": {"my_hospital": 15}, ...}."""
    source = manifest.set_index("image_id")["source"]
    counts = {}
    for choice, reason in REASONS.items():
        images = exclusions.loc[exclusions["reason"] == reason, "image_id"]
        counts[choice] = {str(name): int(n) for name, n in source.loc[images].value_counts().sort_index().items()}
    return counts
