"""What the audit found, for the report: pictures of near-duplicates with both labels, and the excluded images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.errors import EvaluationError

if TYPE_CHECKING:
    import pandas as pd

# The most clusters whose pictures the page carries; the contact sheets show all.
MOST_SHOWN = 24
_SIDE = 128

# source -> reason -> images
Exclusions = dict[str, dict[str, int]]


def read_conflicts(data: Path, audit: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """For each cluster with both labels its images: id, label (0, 1) and a PNG of 128 x 128 pixels.

    Raises:
        DatasetError: There is no benchmark.
        EvaluationError: It is not the one that was audited.
    """
    from PIL import Image

    from bus_mlops.dataset.benchmark import Benchmark

    clusters = audit["conflicts"]["clusters"][:MOST_SHOWN]
    if not clusters:
        return []
    benchmark = Benchmark.open(data / "benchmark")
    pixels = benchmark.images(max(benchmark.sizes))
    row_of = dict(zip(benchmark.frame["image_id"], benchmark.frame["index"], strict=True))
    shown = []
    for sides in clusters:
        images = []
        for label, image in [(0, each) for each in sides["benign"]] + [(1, each) for each in sides["malignant"]]:
            if image not in row_of:
                raise EvaluationError(f"{image} was audited but is not in the benchmark. Run `dvc repro audit`.")
            buffer = io.BytesIO()
            whole = Image.fromarray(np.asarray(pixels[row_of[image]]))
            whole.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR).save(buffer, "PNG")
            images.append({"image_id": image, "label": label, "picture": buffer.getvalue()})
        shown.append(images)
    return shown


def read_excluded(data: Path, flow: Mapping[str, Mapping[str, Any]]) -> tuple[Exclusions, dict[str, dict[str, Any]]]:
    """`excluded_images` of the files under `data`, and the assembly's flow counts after it.

    Nothing is excluded where one of the files is missing.
    """
    import pandas as pd

    names = ("benchmark/manifest.csv", "folds/folds.csv", "audit/exclusions.csv")
    if not all((data / name).is_file() for name in names):
        return {}, {source: dict(counts) for source, counts in flow.items()}
    benchmark, folds, exclusions = (pd.read_csv(data / name, dtype=str, keep_default_na=False) for name in names)
    excluded = excluded_images(benchmark, folds, exclusions)
    return excluded, with_exclusions(flow, excluded, benchmark[benchmark["image_id"].isin(folds["image_id"])])


def excluded_images(benchmark: pd.DataFrame, folds: pd.DataFrame, exclusions: pd.DataFrame) -> Exclusions:
    """Images of the benchmark that the folds do not hold: source -> reason -> how many.

    `conflicting labels` when exactly the audit's conflicts are out, else `near-duplicate` for what the audit
    lists as a duplicate; anything else is `not in the folds` (official folds do not hold every image).
    """
    out = benchmark.loc[~benchmark["image_id"].isin(folds["image_id"]), ["image_id", "source"]]
    if out.empty:
        return {}
    listed = {reason: set(rows["image_id"]) for reason, rows in exclusions.groupby("reason")}
    gone = set(out["image_id"])
    if gone == listed.get("conflict", set()):
        reason = out["image_id"].map(lambda _: "conflicting labels")
    else:
        spare = listed.get("duplicate", set())
        reason = out["image_id"].map(lambda image: "near-duplicate" if image in spare else "not in the folds")
    counts = out.assign(reason=reason).groupby(["source", "reason"]).size()
    result: Exclusions = {}
    for source, why, count in counts.reset_index(name="count").itertuples(index=False):
        result.setdefault(str(source), {})[str(why)] = int(count)
    return result


def with_exclusions(
    flow: Mapping[str, Mapping[str, Any]], excluded: Exclusions, remaining: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """The assembly's flow counts, those of what was kept counted again over the rows that remain."""
    result = {source: dict(counts) for source, counts in flow.items()}
    for source, gone in excluded.items():
        rows = remaining[remaining["source"] == source]
        malignant = int((rows["label"].astype(int) == 1).sum())
        result[source] |= {
            "excluded": {**result[source].get("excluded", {}), **gone},
            "kept": len(rows),
            "benign": len(rows) - malignant,
            "malignant": malignant,
            "cases": int(rows["case_id"].nunique()),
            "with_mask": int(rows["has_mask"].astype(int).sum()),
        }
    return result


def excluded_sentence(excluded: Exclusions) -> str:
    """One sentence on `audit.exclude`, for people."""
    total = sum(sum(counts.values()) for counts in excluded.values())
    if not total:
        return "No image was left out for that (audit.exclude: none)."
    reasons: Sequence[str] = sorted({reason for counts in excluded.values() for reason in counts})
    return f"{total} images were left out of the folds and of training ({', '.join(reasons)})."
