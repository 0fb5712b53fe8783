"""HMSS: a case has several images; crop `r2` and `col2` are height and width, 0-based.

`tumor type` alone gives the label: some rows stand in a group of the other kind, some bear the note "changed".
Names look like numbers (`2879`) or like `12345-Afbeelding2` and stay text. Case descriptions repeat and are
no id.
"""

from __future__ import annotations

from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.record import Crop
from bus_mlops.sources.source import ASK_THE_OWNER, Download, Official, Source, plan_in


def _crop(r1: int, r2: int, col1: int, col2: int) -> Crop:
    return Crop(top=r1, left=col1, height=r2, width=col2)


_LISTED = ListedSource(
    source="hmss",
    tables=("HMSS.csv",),
    image_folders=("imgs",),
    name="img name",
    label="tumor type",
    suffix=".jpg",
    case="case id/cover img id",
    crop=_crop,
)
SOURCE = Source(
    "hmss",
    "HMSS",
    _LISTED.survey,
    has_masks=False,
    official=Official(846, 1160, cases=478),
    download=Download("HMSS.csv"),
    not_offered=ASK_THE_OWNER,
    phantoms=plan_in("hmss"),
)
