"""BUS-UCLM: few patients with many images, most of them normal; the colour of a mask is a label, too.

Vallez et al., BUS-UCLM: Breast ultrasound lesion segmentation dataset, Scientific Data 12 (2025). Names are
`PATIENT_NNN`; a mask has its image's name, a benign lesion is green, a malignant one red, everything else black.
`INFO.csv` has semicolons. Of some images the mask has another size, so that nobody knows where in them it lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_mlops.errors import SourceError
from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.record import Findings
from bus_mlops.sources.source import Archive, Official, Release, Source, plan_in
from bus_mlops.sources.tables import Row

if TYPE_CHECKING:
    from bus_mlops.images.masks import Rgb

GREEN: Rgb = (0, 255, 0)
RED: Rgb = (255, 0, 0)
# All images were made on one, as the publication says.
_SCANNER = "Siemens ACUSON S2000"


def _patient(row: Row) -> str:
    patient, underscore, _ = row.text("Image").rpartition("_")
    if not (patient and underscore):
        raise SourceError(f"{row.where}: Image {row['Image']!r} is not named PATIENT_NUMBER. Correct the row.")
    return patient


_LISTED = ListedSource(
    source="bus_uclm",
    tables=("INFO.csv",),
    image_folders=("images",),
    name="Image",
    label="Label",
    normal="Normal",
    case=_patient,
    mask_folders=("masks",),
    masks=lambda row: [row.text("Image")],
    masks_may_not_fit=True,
    # a benign lesion beside the malignant one that gives the label
    mask_colors=((GREEN,), (RED, GREEN)),
    findings=lambda _: Findings(scanner=_SCANNER),
)
SOURCE = Source(
    "bus_uclm",
    "BUS-UCLM",
    _LISTED.survey,
    has_masks=True,
    official=Official(174, 90, cases=None, with_mask=264, normal=419),
    release=Release(
        licence="CC BY 4.0 from version 3 on (version 1 forbids commercial use), which asks for the citation",
        page="https://doi.org/10.17632/7fvgj4jsp7.3",
        cite="Vallez et al., Scientific Data 12 (2025), https://doi.org/10.1038/s41597-025-04562-3",
        # the zips of this archive are named by data set and version; no checksum is published
        files=(
            Archive(
                "7fvgj4jsp7-3.zip",
                "https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/7fvgj4jsp7-3.zip",
                None,
            ),
        ),
    ),
    phantoms=plan_in("bus_uclm"),
)
