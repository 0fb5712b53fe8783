"""BUSIS: one image a case, masks named by the table, labels B and M; .png or .bmp, table .csv or .xlsx."""

from bus_mlops.sources.base import strip_suffix
from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.tables import Row


def _mask(row: Row) -> str:
    return strip_suffix(row.text("Ground Truth Name"))


read = ListedSource(
    source="busis",
    tables=("BUSIS562.csv", "BUSIS562.xlsx", "BUSIS.csv", "BUSIS.xlsx"),
    image_folders=("imgs",),
    name="img name",
    label="tumor type",
    benign="B",
    malignant="M",
    mask_folders=("GT",),
    mask=_mask,
    extra_columns=("Ground Truth Name",),
).read
