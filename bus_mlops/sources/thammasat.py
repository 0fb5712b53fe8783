"""Thammasat: crop columns are absolute and 1-based: rows r1 - 1 up to but without r2 - 1, columns alike."""

from __future__ import annotations

from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.record import Crop
from bus_mlops.sources.source import ASK_THE_OWNER, Download, Official, Source, plan_in


def _crop(r1: int, r2: int, col1: int, col2: int) -> Crop:
    return Crop(top=r1 - 1, left=col1 - 1, height=r2 - r1, width=col2 - col1)


_LISTED = ListedSource(
    source="thammasat",
    tables=("Thammasat.csv",),
    image_folders=("imgs",),
    name="img name",
    label="tumor type",
    suffix=".jpg",
    case="case id/cover img id",
    crop=_crop,
)
SOURCE = Source(
    "thammasat",
    "Thammasat",
    _LISTED.survey,
    has_masks=False,
    official=Official(120, 143, cases=252),
    download=Download("Thammasat.csv"),
    not_offered=ASK_THE_OWNER,
    phantoms=plan_in("thammasat"),
)
