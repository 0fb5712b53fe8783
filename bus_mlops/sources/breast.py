"""BrEaST: a sheet with a row an image, masks beside the images, categories, and four images without a lesion.

Pawlowska et al., Curated benchmark dataset for ultrasound based breast lesion analysis, Scientific Data 11 (2024). An
image a patient, RGBA. `_tumor` marks the lesion that the row classifies; `_otherN` marks further findings, which have
no class: they are in no mask and counted.
"""

from __future__ import annotations

from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.record import Findings, parse_birads
from bus_mlops.sources.source import Official, Source, plan_in
from bus_mlops.sources.tables import Row

_SHEET = "BrEaST-Lesions-USG-clinical-data-Dec-15-2023"
_TUMOR, _OTHER = "Mask_tumor_filename", "Mask_other_filename"
_NOT_GIVEN = ("not available", "not applicable")


def _findings(row: Row) -> Findings:
    category = row["BIRADS"]
    return Findings(birads="" if category.casefold() in _NOT_GIVEN else parse_birads(category, row.where))


_LISTED = ListedSource(
    source="breast",
    tables=(f"{_SHEET}.xlsx", f"{_SHEET}.csv"),
    image_folders=(),
    name="Image_filename",
    label="Classification",
    normal="normal",
    masks=lambda row: row.texts(_TUMOR, "&"),
    beside=lambda row: row.texts(_OTHER, "&"),
    beside_what="masks of findings that have no class (_other)",
    extra_columns=(_TUMOR, _OTHER, "BIRADS"),
    numbers=("BIRADS",),
    findings=_findings,
)
SOURCE = Source(
    "breast",
    "BrEaST",
    _LISTED.survey,
    has_masks=True,
    official=Official(154, 98, cases=252, with_mask=252, normal=4),
    phantoms=plan_in("breast"),
)
