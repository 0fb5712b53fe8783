"""Audit: exact and near-duplicates from the pixels, joined with case ids into groups no split may divide.

Found: identical images; the same frame rescaled, stretched, re-encoded, smoothed, with other brightness, contrast or
depth gain, with callipers, text, a depth scale or black borders added, mirrored left to right, with trimmed sides, or
with up to a fifth of either side cut off; frames of one sweep that show the same structures. Found in part: a fourth
cut off, depth cut by up to 30 %, a region of interest of two thirds of the sides. Not found: rotated copies or copies
upside down, stronger crops, views of a lesion from another angle. Whole screens that show the same text and scales
around different frames count as alike: give such sources a crop.

Measured by benchmarks/near_duplicates.py with 100 planted copies of each kind (* 60) among the 647 images of real BUSI
and among 927 of BUS-BRA, one kind at a time; wrong are pairs of a copy with an image that is no near-duplicate of its
original (tests/dataset/test_near_duplicates.py holds the audit to bounds below these):

    copies                 BUSI: found  wrong      before       BUS-BRA: found  wrong     before
    sides trimmed          99 %         0 of 161   89 %         100 %           1 of 101  99 %
    one side trimmed       94 %         0 of 156   93 %
    depth cut by 10-30 %   98 %         0 of 165   96 %         58 %            0 of 58   37 %
    cropped up to 25 %     89 %         0 of 142   89 %         84 %            0 of 84   84 %
    region of interest     37 %         0 of 66    2 %          30 %*           1 of 19   3 %
    black borders          100 %        0 of 165   91 %         100 %           0 of 100  87 %
    trimmed export         97 %         0 of 158   88 %         100 %*          0 of 62   98 %

*Before* is version 1, which with black borders found 143 wrong pairs of 288, and 330 of 417. Of copies that were
rescaled, stretched, mirrored, smoothed, cropped by up to 15 %, of another brightness, contrast or gain, with callipers,
text or a depth scale, it found all in both collections, with 8 wrong pairs of 2,700.

On BUSI itself: one identical pair, and 199 near-duplicate pairs, 14 of them seen in a zoomed view alone: the same frame
with a wider field of view or untrimmed sides. BUS-BRA holds 22 pairs. Of the 24 weakest of all, looked at by eye, three
in BUS-BRA show different frames. No image of either is mirrored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.near_duplicates import THRESHOLD, VIEW_THRESHOLD, Match, Pair, near_duplicates
from bus_mlops.dataset.stage_csv import read_stage_csv
from bus_mlops.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

IDENTICAL = "identical"
# Raise it when other pairs are found in the same images, so that groups and folds may differ. 2: side trims and black
# borders.
AUDIT_VERSION = 2


@dataclass(frozen=True)
class Audit:
    """What was found, image by image and pair by pair.

    Attributes:
        groups: (image_id, group) in the manifest's order, where a group bears the smallest of its image ids, so that
            adding a source renames none.
        clusters: (image_id, cluster), the same without the case ids.
        pairs: (image, other, found, similarity), the most alike first; `found` is `identical` or the view that was
            alike.
        metrics: Counts, and the clusters and cases that hold both labels, with their images.
    """

    groups: pd.DataFrame = field(repr=False)
    clusters: pd.DataFrame = field(repr=False)
    pairs: pd.DataFrame = field(repr=False)
    metrics: dict[str, Any]


def audit(benchmark: Benchmark, external: Collection[str] = ()) -> Audit:
    """The leakage group of every image, and what was found on the way, over all sources of the benchmark alike.

    Args:
        benchmark: With the sources that are external, too.
        external: Their names: what of them is near-duplicate of any other image is counted.
    """
    import pandas as pd

    frame = benchmark.frame
    exact = list(_pairs_of_equal(frame["pixel_digest"]))
    near = near_duplicates(benchmark.thumbnails(), frame["width"].tolist(), frame["height"].tolist())
    for pair in exact:
        near.pop(pair, None)
    case_links = list(_links_of_equal(frame["case_id"]))
    ids, labels = frame["image_id"].tolist(), frame["label"].tolist()
    pixel_links = exact + list(near)
    clusters = components(len(ids), pixel_links)
    names = _names(ids, components(len(ids), pixel_links + case_links))
    metrics = {
        "version": AUDIT_VERSION,
        "images": len(ids),
        "cases": int(frame["case_id"].nunique()),
        "groups": len(set(names)),
        "largest_group": max(Counter(names).values()),
        "exact_duplicate_pairs": len(exact),
        "near_duplicate_pairs": len(near),
        "near_duplicate_pairs_seen": dict(sorted(Counter(str(match.view) for match in near.values()).items())),
        "near_duplicate_threshold": THRESHOLD,
        "near_duplicate_threshold_of_views": VIEW_THRESHOLD,
        "clusters": _cluster_counts(clusters, frame["source"].tolist()),
        "pairs_between_sources": _between(frame["source"].tolist(), exact, near),
        "external": _external(frame["source"].tolist(), clusters, external),
        "conflicts": {
            "clusters": _conflicts(clusters, ids, labels),
            "cases": _conflicts(components(len(ids), case_links), ids, labels),
        },
    }
    return Audit(
        groups=pd.DataFrame({"image_id": ids, "group": names}),
        clusters=pd.DataFrame({"image_id": ids, "cluster": _names(ids, clusters)}),
        pairs=_pairs_frame(ids, exact, near),
        metrics=metrics,
    )


def read_groups(path: Path) -> pd.DataFrame:
    """The frame (image_id, group) of a groups.csv.

    Raises:
        DatasetError: It is missing or malformed.
    """
    frame = read_stage_csv(path, "audit")
    if list(frame.columns) != ["image_id", "group"] or frame["image_id"].duplicated().any():
        raise DatasetError(f"{path} must hold image_id and group, one row an image. Run `dvc repro audit`.")
    return frame


def describe(metrics: dict[str, Any]) -> str:
    """The metrics of `audit` as lines for people."""
    clusters, conflicts = metrics["clusters"], metrics["conflicts"]
    lines = [
        f"{metrics['images']} images, {metrics['cases']} cases, {metrics['groups']} leakage groups; "
        f"{clusters['count']} near-duplicate clusters hold {clusters['images']} images "
        f"({100 * clusters['fraction_of_images']:.1f} %), {metrics['exact_duplicate_pairs']} pairs are identical"
    ]
    for sources, found in metrics.get("pairs_between_sources", {}).items():
        lines.append(
            f"  {found['pairs']} pairs of near-duplicates between {sources}, {found['identical']} of them identical"
        )
    for source, found in metrics.get("external", {}).items():
        lines.append(
            f"  external source {source}: {found['related']} of {found['images']} images are near-duplicates of images "
            "that are not external; they and their cases are left out where it is judged"
        )
    for kind, name in (("clusters", "near-duplicates"), ("cases", "one case")):
        lines += [
            f"  labels differ within {name}: benign {', '.join(sides['benign'])}; "
            f"malignant {', '.join(sides['malignant'])}"
            for sides in conflicts[kind]
        ]
    return "\n".join(lines)


def components(count: int, links: Iterable[Pair]) -> NDArray[np.int64]:
    """Union-find over 0 .. count - 1: for each the smallest index it is linked with, directly or not.

    >>> components(5, [(3, 1), (4, 3)])
    array([0, 1, 2, 1, 1])
    """
    parent = list(range(count))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in links:
        low, high = sorted((find(one), find(other)))
        parent[high] = low
    return np.array([find(node) for node in range(count)])


def _pairs_frame(ids: Sequence[str], exact: Iterable[Pair], near: Mapping[Pair, Match]) -> pd.DataFrame:
    import pandas as pd

    rows: list[tuple[str, str, str, float]] = []
    for pair, found, similarity in chain(
        ((pair, IDENTICAL, 1.0) for pair in exact),
        ((pair, str(match.view), match.similarity) for pair, match in near.items()),
    ):
        image, other = sorted(ids[i] for i in pair)
        rows.append((image, other, found, round(similarity, 3)))
    rows.sort(key=lambda row: (-row[3], row[:2]))
    return pd.DataFrame(rows, columns=["image", "other", "found", "similarity"])


def _pairs_of_equal(values: Iterable[str]) -> Iterator[Pair]:
    for members in _members(values):
        yield from ((i, j) for n, i in enumerate(members) for j in members[n + 1 :])


def _links_of_equal(values: Iterable[str]) -> Iterator[Pair]:
    for members in _members(values):
        yield from pairwise(members)


def _members(values: Iterable[str]) -> Iterable[list[int]]:
    found: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        found.setdefault(value, []).append(index)
    return found.values()


def _names(ids: Sequence[str], roots: NDArray[np.int64]) -> list[str]:
    smallest: dict[int, str] = {}
    for image, root in zip(ids, roots, strict=True):
        smallest[int(root)] = min(image, smallest.get(int(root), image))
    return [smallest[int(root)] for root in roots]


def _cluster_counts(clusters: NDArray[np.int64], sources: Sequence[str]) -> dict[str, Any]:
    sizes = Counter(clusters.tolist())
    inside = [i for i, root in enumerate(clusters) if sizes[int(root)] > 1]
    held = Counter(sources[i] for i in inside)
    return {
        "count": sum(size > 1 for size in sizes.values()),
        "images": len(inside),
        "fraction_of_images": round(len(inside) / len(clusters), 4),
        "largest": max(sizes.values()),
        "images_per_source": {source: held[source] for source in sorted(set(sources))},
    }


def _between(sources: Sequence[str], exact: Iterable[Pair], near: Iterable[Pair]) -> dict[str, dict[str, int]]:
    """The pairs of near-duplicates of each two sources that share any, and how many of them are identical."""
    counts: dict[str, dict[str, int]] = {}
    for identical, pairs in ((1, exact), (0, near)):
        for one, other in pairs:
            if sources[one] != sources[other]:
                both = " and ".join(sorted((sources[one], sources[other])))
                found = counts.setdefault(both, {"pairs": 0, "identical": 0})
                found["pairs"] += 1
                found["identical"] += identical
    return dict(sorted(counts.items()))


def _external(
    sources: Sequence[str], clusters: NDArray[np.int64], external: Collection[str]
) -> dict[str, dict[str, int]]:
    """Of each external source its images, and those in a cluster with an image that is not external."""
    outside = np.isin(sources, list(external))
    met = np.isin(clusters, clusters[~outside])
    of = np.array(sources)
    return {
        name: {"images": int((of == name).sum()), "related": int((met & (of == name)).sum())}
        for name in sorted(set(external) & set(sources))
    }


def _conflicts(roots: NDArray[np.int64], ids: Sequence[str], labels: Sequence[int]) -> list[dict[str, list[str]]]:
    sides: dict[int, tuple[list[str], list[str]]] = {}
    for image, label, root in zip(ids, labels, roots, strict=True):
        sides.setdefault(int(root), ([], []))[label].append(image)
    return [
        {"benign": sorted(benign), "malignant": sorted(malignant)}
        for benign, malignant in sides.values()
        if benign and malignant
    ]
