"""Dataset B: zero-padded names with gaps, which without their zeros would collide with HMSS's.

The owner's zip keeps the images in `original/`, the benchmark's site in `imgs/`. The table's further columns
are a legend.
"""

from bus_mlops.sources.base import strip_suffix
from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.tables import Row


def _mask(row: Row) -> str:
    return strip_suffix(row.text("Image"))


read = ListedSource(
    source="dataset_b",
    tables=("DatasetB.xlsx",),
    image_folders=("imgs", "original"),
    name="Image",
    label="Type",
    mask_folders=("GT",),
    mask=_mask,
).read
