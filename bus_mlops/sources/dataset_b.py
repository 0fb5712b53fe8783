"""Dataset B: zero-padded names with gaps, which without their zeros would collide with HMSS's.

The owner's zip keeps the images in `original/`, the benchmark's site in `imgs/`. The table's further columns
are a legend.
"""

from __future__ import annotations

from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.source import ASK_THE_OWNER, Official, Source, plan_in
from bus_mlops.sources.tables import Row


def _masks(row: Row) -> list[str]:
    return [row.text("Image")]


_LISTED = ListedSource(
    source="dataset_b",
    tables=("DatasetB.xlsx",),
    image_folders=("imgs", "original"),
    name="Image",
    label="Type",
    mask_folders=("GT",),
    masks=_masks,
)
_OFFICIAL = Official(109, 54, cases=163, with_mask=163)
SOURCE = Source(
    "dataset_b",
    "Dataset B",
    _LISTED.survey,
    has_masks=True,
    official=_OFFICIAL,
    not_offered=ASK_THE_OWNER,
    phantoms=plan_in("dataset_b"),
)
