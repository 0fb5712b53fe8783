"""The digests of the images and of the fold assignment that a cohort uses: part of every fingerprint."""

from __future__ import annotations

from collections.abc import Collection

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.errors import DatasetError
from bus_mlops.paths import BENCHMARK


def digests_of(benchmark: Benchmark, folds: Folds, cohort: Collection[str], network: str) -> tuple[str, str]:
    """Digest of the cohort's images and of their folds, 64 hexadecimal digits each: no image outside the folds counts.

    Raises:
        DatasetError: The benchmark has none of the cohort's sources; names the network that asks.
    """
    frame = benchmark.frame
    # audit.exclude leaves images out of the folds; the leakage stage has checked that no others are missing
    ids = frame.loc[frame["source"].isin(cohort) & frame["image_id"].isin(folds.frame["image_id"]), "image_id"]
    if ids.empty:
        raise DatasetError(
            f"{network} needs images of {', '.join(cohort)}, and none of these sources is in "
            f"{BENCHMARK} (there: {', '.join(sorted(frame['source'].unique()))}). Add one of them to "
            "data.root, or take the network and its strategies out of params.yaml."
        )
    return benchmark.data_digest(cohort, ids), folds.digest(ids)
