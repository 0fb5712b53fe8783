"""GDPH&SYSUCC: images of two hospitals in two layouts, without masks and patients; many images are there twice.

Mo et al., HoVer-Trans, IEEE Transactions on Medical Imaging 42 (2023). The one layout is `img/` and `label.csv`, the
other `GDPH/`, `SYSUCC/` and `BIRADS&FOLD.xlsx`, which has the categories of two readers; the first one's are taken.
Names, `benign(N)` and `malignant(N)`, are the same in both and are the label. Some duplicates bear both: the audit
finds them, nothing is decided here. The owners state no licence.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from bus_mlops.errors import SourceError
from bus_mlops.sources.listed import ListedSource
from bus_mlops.sources.record import Findings, locate, parse_birads
from bus_mlops.sources.source import Official, Problem, Source, Survey, plan_in, some
from bus_mlops.sources.tables import Row

_READER = "BIRADS-reader1"
_CODES = {"benign": "0", "malignant": "1"}


def _word(row: Row, column: str) -> str:
    match = re.fullmatch(r"(benign|malignant) ?\(\d+\)(\.\w+)?", row.text(column), re.IGNORECASE)
    if not match:
        raise SourceError(f"{row.where}: {row[column]!r} is not named benign(N) or malignant(N). Correct the row.")
    return match[1].lower()


def _listed_word(row: Row) -> str:
    word = _word(row, "name")
    if row["label"] not in (word, _CODES[word]):
        raise SourceError(
            f"{row.where}: {row['name']!r} has label {row['label']!r}, but a name that says {word}, which is "
            f"{_CODES[word]}. Take the file as its owners deliver it."
        )
    return word


_WITH_LABELS = ListedSource(
    source="gdph_sysucc",
    tables=("label.csv",),
    image_folders=("img",),
    name="name",
    label=_listed_word,
    extra_columns=("label",),
)
_WITH_READERS = ListedSource(
    source="gdph_sysucc",
    tables=("BIRADS&FOLD.xlsx",),
    image_folders=(),
    image_parts=("GDPH", "SYSUCC"),
    name="ID",
    label=lambda row: _word(row, "ID"),
    extra_columns=(_READER,),
    numbers=(_READER,),
)


def survey(folder: Path) -> Survey:
    """The records of either layout; a category that is none is left empty, and said.

    Raises:
        SourceError: Neither layout is there, or both are.
    """
    labels, readers = (locate(folder, each.tables) for each in (_WITH_LABELS, _WITH_READERS))
    if labels and readers:
        raise SourceError(f"{labels} and {readers} are both there: two copies of the source in one folder. Keep one.")
    if labels or (not readers and locate(folder, _WITH_LABELS.image_folders)):
        return _WITH_LABELS.survey(folder)
    if not (readers or locate(folder, _WITH_READERS.image_parts)):
        raise SourceError(
            f"{folder} holds neither img/ with label.csv nor GDPH/ and SYSUCC/ with BIRADS&FOLD.xlsx. Unpack the "
            "source there as its owners deliver it."
        )
    strange: dict[str, str] = {}

    def findings(row: Row) -> Findings:
        try:
            return Findings(birads=parse_birads(row[_READER], row.where))
        except SourceError:
            strange[row.where] = row[_READER]
            return Findings()

    found = replace(_WITH_READERS, findings=findings).survey(folder)
    if not strange:
        return found
    shown = some(f"{where}: {value!r}" for where, value in strange.items())
    message = f"{len(strange)} BI-RADS value(s) are no category and are left empty: {shown}."
    return replace(found, problems=(*found.problems, Problem("bad_rows", tuple(strange), message, stops=False)))


SOURCE = Source(
    "gdph_sysucc",
    "GDPH&SYSUCC",
    survey,
    has_masks=False,
    official=Official(886, 1519, cases=2405),
    not_offered="its owners state no licence (https://github.com/yuhaomo/HoVerTrans says where it is)",
    phantoms=plan_in("gdph_sysucc"),
)
