"""BUSIS: one image a case, masks named by the table, labels B and M; .png or .bmp, table .csv or .xlsx."""

from __future__ import annotations

from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.source import ASK_THE_OWNER, Official, Source, plan_in
from bus_mlops.sources.tables import Row


def _masks(row: Row) -> list[str]:
    return [row.text("Ground Truth Name")]


_LISTED = ListedSource(
    source="busis",
    tables=("BUSIS562.csv", "BUSIS562.xlsx", "BUSIS.csv", "BUSIS.xlsx"),
    image_folders=("imgs",),
    name="img name",
    label="tumor type",
    benign="B",
    malignant="M",
    mask_folders=("GT",),
    masks=_masks,
    extra_columns=("Ground Truth Name",),
)
_NAMES = tuple(f"case{number:04d}" for number in range(1, 563))
_OFFICIAL = Official(306, 256, cases=562, with_mask=562, names=_NAMES)
SOURCE = Source(
    "busis",
    "BUSIS",
    _LISTED.survey,
    has_masks=True,
    official=_OFFICIAL,
    not_offered=ASK_THE_OWNER,
    phantoms=plan_in("busis"),
)
