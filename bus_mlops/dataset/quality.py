"""Audit: exact and near-duplicates from the pixels, joined with case ids into groups no split may divide.

Found: identical images; the same frame rescaled, with other brightness or contrast, with callipers or text
added, or shifted or cropped by a few percent of the side; frames of one sweep that show the same structures.
Not found: mirrored or rotated copies, stronger crops, and views of a lesion from another angle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

# Set on real BUSI by looking at the pairs: from 0.29 on all show the same lesion, from 0.28 down they are
# mixed; a margin is left for larger collections. That finds 117 clusters of 263 of the 647 images, 6 of them
# across the labels.
NEAR_DUPLICATE = 0.33
_NEIGHBOURS = 24
_COEFFICIENTS = 12
_SHIFT = 8
_ROWS_AT_ONCE = 1024

Pair = tuple[int, int]
Floats = NDArray[np.float32]


def audit(benchmark: Benchmark) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The leakage group of every image, and what was found.

    Returns a frame (image_id, group) in the manifest's order, where a group bears the smallest of its image
    ids, so that adding a source renames none; and metrics: counts of pairs and clusters, and the clusters and
    cases that hold both labels, with their images.
    """
    import pandas as pd

    frame = benchmark.frame
    exact = list(_pairs_of_equal(frame["pixel_digest"]))
    near = near_duplicates(benchmark.thumbnails(), frame["width"].tolist(), frame["height"].tolist())
    case_links = list(_links_of_equal(frame["case_id"]))
    ids, labels = frame["image_id"].tolist(), frame["label"].tolist()
    pixel_links = exact + list(near)
    clusters = components(len(ids), pixel_links)
    groups = components(len(ids), pixel_links + case_links)
    names = _names(ids, groups)
    metrics = {
        "images": len(ids),
        "cases": int(frame["case_id"].nunique()),
        "groups": len(set(names)),
        "largest_group": max(Counter(names).values()),
        "exact_duplicate_pairs": len(exact),
        "near_duplicate_pairs": len(set(near) - set(exact)),
        "near_duplicate_threshold": NEAR_DUPLICATE,
        "clusters": _cluster_counts(clusters, frame["source"].tolist()),
        "conflicts": {
            "clusters": _conflicts(clusters, ids, labels),
            "cases": _conflicts(components(len(ids), case_links), ids, labels),
        },
    }
    return pd.DataFrame({"image_id": ids, "group": names}), metrics


def read_groups(path: Path) -> pd.DataFrame:
    """The frame (image_id, group) of a groups.csv; raises DatasetError when it is missing or malformed."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DatasetError(f"{path} not found. Run `dvc repro audit`.") from None
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path} cannot be read: {error}. Run `dvc repro audit`.") from error
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
        for sides in conflicts[kind]:
            lines.append(
                f"  labels differ within {name}: benign {', '.join(sides['benign'])}; "
                f"malignant {', '.join(sides['malignant'])}"
            )
    return "\n".join(lines)


def near_duplicates(thumbnails: NDArray[np.uint8], widths: Sequence[int], heights: Sequence[int]) -> dict[Pair, float]:
    """Pairs (i < j) of (N, 64, 64) thumbnails whose peak correlation reaches the threshold, with its value.

    Candidates are the nearest neighbours by low-frequency cosine transform; each is confirmed by the greatest
    normalized correlation of the locally normalized images over shifts of up to 8 pixels. Brightness,
    contrast and depth gain cancel out. `widths` and `heights`, in pixels before padding, say which part of a
    thumbnail is image: padding must not make two images alike.
    """
    from scipy import fft

    values = np.asarray(thumbnails, dtype=np.float32)
    content = _content(values.shape[1], widths, heights)
    candidates = _candidates(_descriptors(values, content))
    side = values.shape[1] + _SHIFT
    spectra = fft.rfft2(_whitened(values, content), s=(side, side))
    found: dict[Pair, float] = {}
    for start in range(0, len(candidates), _ROWS_AT_ONCE):
        block = candidates[start : start + _ROWS_AT_ONCE]
        surface = fft.irfft2(spectra[block[:, 0]].conj() * spectra[block[:, 1]], s=(side, side))
        window = np.r_[0 : _SHIFT + 1, side - _SHIFT : side]
        peaks = surface[:, window][:, :, window].max(axis=(1, 2))
        for (i, j), peak in zip(block[peaks >= NEAR_DUPLICATE], peaks[peaks >= NEAR_DUPLICATE], strict=True):
            found[int(i), int(j)] = float(peak)
    return found


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


def _content(side: int, widths: Sequence[int], heights: Sequence[int]) -> Floats:
    """(N, side, side): 1 where a thumbnail shows the image, 0 in its padding and one pixel next to it."""
    width, height = np.asarray(widths, dtype=float), np.asarray(heights, dtype=float)
    longest = np.maximum(width, height)
    centre = np.abs(np.arange(side) - (side - 1) / 2)
    rows = centre[None] <= (side * height / longest / 2 - 1.5)[:, None]
    columns = centre[None] <= (side * width / longest / 2 - 1.5)[:, None]
    return (rows[:, :, None] & columns[:, None, :]).astype(np.float32)


def _detail(values: Floats, content: Floats, sigma: float) -> Floats:
    """The images minus their local mean over the content, 0 in the padding."""
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(content, (0, sigma, sigma)) + 1e-6
    mean = gaussian_filter(values * content, (0, sigma, sigma)) / weight
    return np.asarray((values - mean) * content, dtype=np.float32)


def _whitened(values: Floats, content: Floats) -> Floats:
    """Each image without its low frequencies, of even local contrast, norm 1 over the content."""
    from scipy.ndimage import gaussian_filter

    detail = _detail(values, content, 2)
    weight = gaussian_filter(content, (0, 4, 4)) + 1e-6
    contrast = np.sqrt(gaussian_filter(detail**2, (0, 4, 4)) / weight) + 4
    return _normalized(detail / contrast)


def _descriptors(values: Floats, content: Floats) -> Floats:
    """(N, 143) low-frequency cosine coefficients without the trend over depth that all images share."""
    from scipy import fft

    flat = _detail(values, content, 4)
    spectrum = fft.dctn(flat, axes=(1, 2), norm="ortho")[:, :_COEFFICIENTS, :_COEFFICIENTS]
    return _normalized(spectrum.reshape(len(values), -1)[:, 1:])


def _normalized(values: Floats) -> Floats:
    norm = np.sqrt((values**2).sum(axis=tuple(range(1, values.ndim)), keepdims=True))
    # an image without any structure correlates with nothing
    result: Floats = np.where(norm > 1e-3, values / np.maximum(norm, 1e-3), 0).astype(np.float32)
    return result


def _candidates(descriptors: Floats) -> NDArray[np.int64]:
    """(P, 2) sorted pairs i < j of near neighbours, found in blocks of rows so that memory stays bounded."""
    count = len(descriptors)
    k = min(_NEIGHBOURS, count - 1)
    if k < 1:
        return np.empty((0, 2), dtype=np.int64)
    pairs = []
    for start in range(0, count, _ROWS_AT_ONCE):
        likeness = descriptors[start : start + _ROWS_AT_ONCE] @ descriptors.T
        rows = np.arange(len(likeness))
        likeness[rows, rows + start] = -np.inf
        neighbours = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        pairs.append(np.stack([np.repeat(rows + start, k), neighbours.ravel()], axis=1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


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
