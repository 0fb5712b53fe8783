"""`Record`: what every reader yields for an image, and the helpers that readers share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bus_mlops.errors import SourceError

IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
BENIGN, MALIGNANT = 0, 1
# Why the flow counts of a benchmark leave an entry of an incomplete source out.
IMAGE_ABSENT, MASK_ABSENT = "image not there", "mask not there"


class Crop(NamedTuple):
    """A rectangle in pixels, 0-based: rows top .. top + height - 1, columns left .. left + width - 1."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Record:
    """One image as its source describes it; nothing is decoded yet.

    `origin` names the row or file that the record comes from, for error messages.
    """

    source: str
    name: str
    case: str
    label: int
    image: Path
    masks: tuple[Path, ...] = ()
    crop: Crop | None = None
    origin: str = ""

    @property
    def image_id(self) -> str:
        """`<source>/<name>`, unique over all sources."""
        return f"{self.source}/{self.name}"

    @property
    def case_id(self) -> str:
        """`<source>/<case>`; an image without a known case is its own case."""
        return f"{self.source}/{self.case}"


class LabelConflict(NamedTuple):
    """A case with benign and malignant images: kept as the source says, and reported."""

    case_id: str
    benign: tuple[str, ...]
    malignant: tuple[str, ...]


def label_conflicts(records: Iterable[Record]) -> list[LabelConflict]:
    """The cases whose images bear both labels, with the ids of the images of each."""
    cases: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for record in records:
        cases[record.case_id][record.label].append(record.image_id)
    return [
        LabelConflict(case, tuple(sorted(benign)), tuple(sorted(malignant)))
        for case, (benign, malignant) in sorted(cases.items())
        if benign and malignant
    ]


def parse_label(value: str, where: str, benign: str = "benign", malignant: str = "malignant") -> int:
    """0 or 1 for a source's own words, upper or lower case.

    Raises:
        SourceError: It is another word.
    """
    word = value.strip().casefold()
    if word == benign.casefold():
        return BENIGN
    if word == malignant.casefold():
        return MALIGNANT
    raise SourceError(
        f"{where}: label {value!r} is neither {benign!r} nor {malignant!r}. Correct the row, or take it out."
    )


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `benign (2)` comes before `benign (10)`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)


def images_by_name(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file, of all images right in a folder; hidden files are passed over.

    Raises:
        SourceError: Two files differ only in their suffix, since a table names images without it.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise SourceError(
                f"{folder} holds both {found[path.stem].name!r} and {path.name!r}, and nothing says which "
                "is meant. Keep one of them."
            )
        found[path.stem] = path
    return found


def strip_suffix(name: str) -> str:
    """An image's name without `.png` and the like; other dots are part of the name."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else name


def existing_folder(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` that is a folder below root.

    Raises:
        SourceError: None is; names all that were tried.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    tried = " or ".join(f"{root / name}" for name in names)
    raise SourceError(f"{tried} not found: {what} belong there. Unpack the source as its owner delivers it.")
