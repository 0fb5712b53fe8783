"""Audit: exact and near-duplicates from the pixels, joined with case ids into groups no split may divide.

Found: identical images; the same frame rescaled, re-encoded, with other brightness or contrast, with callipers
or text added, mirrored left to right, or with up to a fifth of either side cut off; frames of one sweep
that show the same structures. Not found: rotated copies or copies upside down, stronger crops, views of a
lesion from another angle.

Measured with 150 planted copies of each kind among the 647 images of real BUSI, one kind at a time; wrong are
pairs of a copy with an image that is no near-duplicate of its original (tests/dataset/test_near_duplicates.py
measures it again and holds the audit to bounds below these):

    copies                      found   wrong pairs
    rescaled 0.4 to 1.6, JPEG   150     0 of 255
    gamma, gain and offset      150     0 of 256
    callipers and text          150     0 of 251
    mirrored                    150     0 of 245
    cropped by up to 10 %       150     1 of 241
    cropped by up to 15 %       149     1 of 237
    cropped by up to 20 %       150     1 of 233
    cropped by up to 25 %       142     1 of 217
    mirrored, cropped to 10 %   150     1 of 240
    all of it but mirrored      150     0 of 238

On BUSI itself: one identical pair, and 121 clusters of 275 images (42.5 %), 6 of them across the labels. Of the
196 near-duplicate pairs 11 are seen in a zoomed view alone, the same frame with a wider field of view or an
untrimmed border; without those views it would be 117 clusters of 263 images. No image of BUSI is mirrored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def audit(benchmark: Benchmark) -> Audit:
    """The leakage group of every image, and what was found on the way."""
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
        f"audit: {metrics['images']} images, {metrics['cases']} cases, {metrics['groups']} leakage groups; "
        f"{clusters['count']} near-duplicate clusters hold {clusters['images']} images "
        f"({clusters['fraction_of_images']:.1%}), {metrics['exact_duplicate_pairs']} pairs are identical"
    ]
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


def _conflicts(roots: NDArray[np.int64], ids: Sequence[str], labels: Sequence[int]) -> list[dict[str, list[str]]]:
    sides: dict[int, tuple[list[str], list[str]]] = {}
    for image, label, root in zip(ids, labels, roots, strict=True):
        sides.setdefault(int(root), ([], []))[label].append(image)
    return [
        {"benign": sorted(benign), "malignant": sorted(malignant)}
        for benign, malignant in sides.values()
        if benign and malignant
    ]
