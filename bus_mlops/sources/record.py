"""`Record`: what every reader yields for an image, and the helpers that readers share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bus_mlops.errors import SourceError
from bus_mlops.files import is_litter, printable

if TYPE_CHECKING:
    from bus_mlops.images.masks import Rgb

IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
# NORMAL, an image without a lesion, is no label of the benchmark's two classes: such records are kept apart.
BENIGN, MALIGNANT, NORMAL = 0, 1, 2
# Why the flow counts of a benchmark leave an entry of an incomplete source out.
IMAGE_ABSENT, MASK_ABSENT, MASK_UNFIT = "image not there", "mask not there", "mask of another size"


class Crop(NamedTuple):
    """A rectangle in pixels, 0-based: rows top .. top + height - 1, columns left .. left + width - 1."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What some sources say of an image beside its label; empty where they do not.

    Attributes:
        scanner: The make and model of the device.
        birads: The BI-RADS category that a reader gave, `2` to `5`, `4A` and the like.
        lesion_box: Around the lesion, in pixels of the image as it is delivered.
    """

    scanner: str = ""
    birads: str = ""
    lesion_box: Crop | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One image as its source describes it; nothing is decoded yet.

    Attributes:
        label: BENIGN or MALIGNANT; NORMAL only in `Survey.normal`.
        origin: The row or file that the record comes from, for error messages.
        mask_colors: Where the colours of a mask are labels: it must hold the first and may hold the others, but none
            beside; empty where any colour marks the lesion.
    """

    source: str
    name: str
    case: str
    label: int
    image: Path
    masks: tuple[Path, ...] = ()
    crop: Crop | None = None
    origin: str = ""
    findings: Findings = Findings()
    mask_colors: tuple[Rgb, ...] = ()

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


def parse_label(
    value: str, where: str, benign: str = "benign", malignant: str = "malignant", normal: str | None = None
) -> int:
    """0 or 1 for a source's own words, upper or lower case; 2 for its word for no lesion, if it has one.

    Raises:
        SourceError: It is another word.
    """
    words = {benign: BENIGN, malignant: MALIGNANT, **({normal: NORMAL} if normal else {})}
    for word, label in words.items():
        if value.strip().casefold() == word.casefold():
            return label
    raise SourceError(
        f"{where}: label {value!r} is neither {' nor '.join(map(repr, words))}. Correct the row, or take it out."
    )


def parse_birads(value: str, where: str) -> str:
    """A BI-RADS category in capitals, `0` to `6` with `A` to `C` behind some, or empty.

    Raises:
        SourceError: It is something else.
    """
    if re.fullmatch("([0-6][A-Ca-c]?)?", value):
        return value.upper()
    raise SourceError(
        f"{where}: BI-RADS {value!r} is no category: 0 to 6, such as 3 or 4A. Correct the row, or leave it empty."
    )


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `benign (2)` comes before `benign (10)`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)


def images_by_name(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Name without suffix -> file, of all images right in a folder; other systems' files are passed over.

    In names, bytes that are no UTF-8 are escaped.

    Raises:
        SourceError: Two files differ only in their suffix, since a table names images without it.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or is_litter(path.name) or not path.is_file():
            continue
        name = printable(path.stem)
        if name in found:
            raise SourceError(
                f"{folder} holds both {found[name].name!r} and {path.name!r}, and nothing says which "
                "is meant. Keep one of them."
            )
        found[name] = path
    return found


def strip_suffix(name: str) -> str:
    """An image's name without `.png` and the like; other dots are part of the name."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else name


def existing_folder(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` that is a folder in root, or up to three levels deeper.

    Raises:
        SourceError: None is, and it names all that were tried; or there are several places, and it names them.
    """
    found = locate(root, names)
    if found:
        return found
    tried = " or ".join(f"{root / name}" for name in names)
    raise SourceError(f"{tried} not found: {what} belong there. Unpack the source as its owner delivers it.")


def locate(root: Path, names: Sequence[str]) -> Path | None:
    """The place of a table or a folder of images in a source: in its folder, or up to three levels deeper.

    In each place the first of `names` counts that is there, one with images before one without: an archive unpacked
    into a folder of its own name often holds that folder once more.

    Raises:
        SourceError: There are several places; names them.
    """
    found = [path for place in _places(root) if (path := _first_there(place, names))]
    filled = [path for path in found if path.is_file() or _holds_images(path)]
    if len(filled) > 1:
        raise SourceError(
            f"{' and '.join(printable(path) for path in filled)} are both there, and nothing says which is meant. Keep "
            "one copy."
        )
    return next(iter(filled or found), None)


def folder_of_images(root: Path, what: str) -> Path:
    """The one folder that holds images: root, or one up to four levels deeper, whatever it is called.

    Raises:
        SourceError: None does, or several do, and it names them.
    """
    found = [place for place in _places(root, levels=4) if place.is_dir() and _holds_images(place)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SourceError(f"{root} holds no image: {what} belong there. Unpack the source as its owner delivers it.")
    raise SourceError(
        f"{' and '.join(printable(path) for path in found)} all hold images, and nothing says which are {what}. Keep "
        "one copy."
    )


def _places(root: Path, levels: int = 3) -> Iterator[Path]:
    yield root
    if levels and root.is_dir():
        for path in sorted(root.iterdir()):
            if path.is_dir() and not is_litter(path.name):
                yield from _places(path, levels - 1)


def _first_there(place: Path, names: Sequence[str]) -> Path | None:
    there = [place / name for name in names if (place / name).exists()]
    return next((path for path in there if path.is_file() or _holds_images(path)), there[0] if there else None)


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES and not is_litter(path.name) for path in folder.iterdir())
