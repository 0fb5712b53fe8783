"""An assembled benchmark of 32 pixels with nothing but manifest and masks, each lesion of a wanted area."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bus_mlops.dataset.benchmark import COLUMNS, FORMAT_VERSION
from bus_mlops.evaluation.lesions import image_facts
from bus_mlops.files import write_json

SIDE = 32


def write_benchmark(
    folder: Path, image_ids: Sequence[str], areas: Sequence[int], sizes: Sequence[tuple[int, int]] | None = None
) -> Path:
    """Write it; areas are in pixels of 32 x 32, 0 for no mask; sizes are (width, height) of the crop."""
    count = len(image_ids)
    masks = np.zeros((count, SIDE * SIDE), np.uint8)
    for mask, area in zip(masks, areas, strict=True):
        mask[:area] = 1
    np.save(folder / f"masks_{SIDE}.npy", masks.reshape(count, SIDE, SIDE))
    width, height = zip(*(sizes or [(SIDE, SIDE)] * count), strict=True)
    frame = pd.DataFrame({"index": range(count), "image_id": image_ids, "source": "busi", "label": 0})
    frame = frame.assign(
        name=frame["image_id"].str.split("/").str[1],
        case_id=frame["image_id"],
        has_mask=(np.array(areas) > 0).astype(int),
        width=width,
        height=height,
        path=frame["image_id"] + ".png",
        digest="0" * 64,
        pixel_digest="0" * 64,
        scanner="",
        birads="",
        lesion_box="",
    )
    frame[list(COLUMNS)].to_csv(folder / "manifest.csv", index=False)
    info = {"version": FORMAT_VERSION, "kind": "phantom", "color": "gray", "geometry": 1, "sizes": [SIDE]}
    write_json(folder / "benchmark.json", {**info, "sources": ["busi"], "flow": {}})
    return folder


def facts_of(folder: Path) -> pd.DataFrame:
    """What is known of the images of a benchmark that is there."""
    facts = image_facts(folder)
    assert facts is not None
    return facts
