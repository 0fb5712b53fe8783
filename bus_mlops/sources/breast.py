"""BrEaST: a sheet with a row an image, masks beside the images, categories, and four images without a lesion.

Pawlowska et al., Curated benchmark dataset for ultrasound based breast lesion analysis, Scientific Data 11 (2024). An
image a patient, RGBA. `_tumor` marks the lesion that the row classifies; `_otherN` marks further findings, which have
no class: they are in no mask and counted.
"""

from __future__ import annotations

from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.record import Findings, parse_birads
from bus_mlops.sources.source import Archive, Official, Release, Source, plan_in
from bus_mlops.sources.tables import Row

_SHEET = "BrEaST-Lesions-USG-clinical-data-Dec-15-2023"
_TUMOR, _OTHER = "Mask_tumor_filename", "Mask_other_filename"
_TCIA = "https://www.cancerimagingarchive.net/wp-content/uploads"
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
    release=Release(
        licence="CC BY 4.0, which asks for the citation",
        page="https://doi.org/10.7937/9WKK-Q141",
        cite="Pawlowska et al., Scientific Data 11 (2024), https://doi.org/10.1038/s41597-024-02984-z",
        files=(
            Archive(
                "BrEaST-Lesions_USG-images_and_masks-Dec-15-2023.zip",
                f"{_TCIA}/BrEaST-Lesions_USG-images_and_masks-Dec-15-2023.zip",
                "sha256:c32e49cdfa54042e065582d0cb35978b5fc5e5b5e461b33bf773fb50cfdad355",
            ),
            Archive(
                f"{_SHEET}.xlsx",
                f"{_TCIA}/{_SHEET}.xlsx",
                "sha256:89a8874496a6f1f93960390b963f7369b90f7e72ee08a738f2d17e37f5eff8bf",
            ),
        ),
    ),
    phantoms=plan_in("breast"),
)
