"""BUS-BRA: a table of patients, scanners and BI-RADS categories; a mask is named as its image, `mask_` for `bus_`.

Gómez-Flores, Gregorio-Calas, Pereira: BUS-BRA, a breast ultrasound dataset for assessing computer-aided diagnosis
systems, Medical Physics 51 (2024). Every lesion was biopsied or followed up; most patients have two views.
"""

from __future__ import annotations

import re

from bus_mlops.errors import SourceError
from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.published import PublishedFolds
from bus_mlops.sources.record import Crop, Findings, parse_birads, strip_suffix
from bus_mlops.sources.source import Archive, Official, Release, Source, plan_in
from bus_mlops.sources.tables import Row

_BOX = re.compile(r"\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")


def _masks(row: Row) -> list[str]:
    name = strip_suffix(row.text("ID"))
    if not name.startswith("bus_"):
        raise SourceError(f"{row.where}: ID {name!r} does not begin with 'bus_', after which its mask is named.")
    return [f"mask_{name.removeprefix('bus_')}"]


def _findings(row: Row) -> Findings:
    """The scanner without the band of its probe (`GE Logiq 7 @10-14MHz`), the category, and the box `[x,y,w,h]`."""
    match = _BOX.fullmatch(row["BBOX"])
    if row["BBOX"] and not match:
        raise SourceError(
            f"{row.where}: BBOX = {row['BBOX']!r} is no box '[x,y,width,height]' in pixels. Correct the row, or leave "
            "it empty."
        )
    x, y, width, height = map(int, match.groups()) if match else (0, 0, 0, 0)
    return Findings(
        scanner=row["Device"].partition("@")[0].strip(),
        birads=parse_birads(row["BIRADS"], row.where),
        lesion_box=Crop(y, x, height, width) if match else None,
    )


_LISTED = ListedSource(
    source="busbra",
    tables=("bus_data.csv",),
    image_folders=("Images",),
    name="ID",
    label="Pathology",
    case="Case",
    mask_folders=("Masks",),
    masks=_masks,
    extra_columns=("Device", "BIRADS", "BBOX"),
    findings=_findings,
)
SOURCE = Source(
    "busbra",
    "BUS-BRA",
    _LISTED.survey,
    has_masks=True,
    official=Official(1268, 607, cases=1064, with_mask=1875),
    release=Release(
        licence="CC BY 4.0; the LICENSE.txt inside permits use and distribution and asks for the citation",
        page="https://doi.org/10.5281/zenodo.8231412",
        cite="Gómez-Flores, Gregorio-Calas, Pereira, Medical Physics 51 (2024), https://doi.org/10.1002/mp.16812",
        files=(
            Archive(
                "BUSBRA.zip",
                "https://zenodo.org/records/8231412/files/BUSBRA.zip?download=1",
                "sha256:ba3e6ed19cc37c682d8d39e25435bbf8a555a12cb7e641b5f2117685c95580ff",
            ),
        ),
    ),
    folds=PublishedFolds({5: "5-fold-cv.csv", 10: "10-fold-cv.csv"}),
    phantoms=plan_in("busbra"),
)
