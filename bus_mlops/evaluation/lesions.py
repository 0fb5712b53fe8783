"""How large the lesion of each image is, in thirds, and which scanner made it, as far as the benchmark knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.dataset.benchmark import MANIFEST_FILE, Benchmark

if TYPE_CHECKING:
    import pandas as pd

THIRDS = ("smallest third", "middle third", "largest third")
NO_MASK = "no mask"
SCANNER = "scanner"

_CHUNK = 256


def image_facts(benchmark: Path) -> pd.DataFrame | None:
    """What the benchmark knows of each image beside its label; None where no benchmark is assembled.

    Returns:
        By image_id: `share`, the lesion's area as a share of the image (0-1; NaN without a mask), and `scanner`, empty
        where the source names none.
    """
    import pandas as pd

    if not (benchmark / MANIFEST_FILE).is_file():
        return None
    opened = Benchmark.open(benchmark)
    manifest = opened.frame
    masks = opened.masks(max(opened.sizes))
    pixels = [masks[i : i + _CHUNK].sum(axis=(1, 2), dtype=np.int64) for i in range(0, len(masks), _CHUNK)]
    area = np.concatenate(pixels) if pixels else np.zeros(0)
    width, height = (manifest[name].to_numpy(dtype=np.float64) for name in ("width", "height"))
    # The masks are squares to which the image was padded.
    share = area / masks[0].size * np.maximum(width, height) ** 2 / (width * height) if len(area) else area
    named = manifest[SCANNER].fillna("").astype(str) if SCANNER in manifest else ""
    known = (manifest["has_mask"].to_numpy() == 1) & (area > 0)
    return pd.DataFrame({"share": np.where(known, share, np.nan), SCANNER: named}).set_index(
        pd.Index(manifest["image_id"], name="image_id")
    )


def cut_points(shares: npt.ArrayLike) -> tuple[float, float]:
    """Up to which share a lesion is in the smallest and in the middle third; NaN are left out, and all NaN gives NaN.

    >>> [round(cut, 3) for cut in cut_points([0.01, 0.02, 0.04, 0.08, float("nan")])]
    [0.02, 0.04]
    """
    values = np.asarray(shares, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    # Of lesions that are there, so that none lies between two thirds.
    low, high = np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf")
    return float(low), float(high)


def third_of(shares: npt.ArrayLike, cuts: tuple[float, float]) -> npt.NDArray[Any]:
    """Which of `THIRDS` each share is in, `NO_MASK` where it is NaN; lesions of equal size are in the same."""
    values = np.asarray(shares, dtype=np.float64)
    names = np.array([*THIRDS, NO_MASK], dtype=object)
    return np.asarray(names[np.where(np.isnan(values), len(THIRDS), np.searchsorted(np.array(cuts), values))])
