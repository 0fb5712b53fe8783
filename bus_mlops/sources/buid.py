"""BUID (QAMEBI): the folder is the label, `N Benign Image.bmp`, its mask `.tif`, and a third picture with the outline.

Ardakani et al., An open-access breast lesion ultrasound image database, Computers in Biology and Medicine 152 (2023).
An image a lesion, no patient ids. Its owners ask for attribution and state no licence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bus_mlops.errors import SourceError
from bus_mlops.sources.record import (
    BENIGN,
    IMAGE_SUFFIXES,
    MALIGNANT,
    Record,
    images_by_name,
    locate,
    natural_key,
)
from bus_mlops.sources.source import Kind, Official, Problem, Source, Survey, plan_in, some

_CLASSES = (("Benign", BENIGN, 109), ("Malignant", MALIGNANT, 123))
_PICTURES = (".bmp", *(suffix for suffix in IMAGE_SUFFIXES if suffix != ".bmp"))
_MASKS = (".tif", ".tiff", *_PICTURES)
_NAME = re.compile(r"(?P<name>\d+ (?P<word>benign|malignant)) (?P<what>image|mask|lesion)", re.IGNORECASE)


def survey(folder: Path) -> Survey:
    """The records of `Benign/` and `Malignant/`; images without mask, masks without image and strange names.

    Raises:
        SourceError: A class's folder is missing or there twice, or there is no image.
    """
    records, problems, outlines = list[Record](), list[Problem](), 0
    for word, label, _ in _CLASSES:
        place = locate(folder, [word, word.lower(), word.upper()])
        if place is None or not place.is_dir():
            raise SourceError(f"{folder / word} not found: BUID has Benign/ and Malignant/. Unpack both.")
        of, strange = _files(place, word)
        outlines += len(of["lesion"])
        records += [_record(name, label, path, of["mask"].get(name)) for name, path in of["image"].items()]
        orphans = {
            path: f"a mask without {name} Image.bmp" for name, path in of["mask"].items() if name not in of["image"]
        }
        bare = {path: f"has no {name} Mask.tif" for name, path in of["image"].items() if name not in of["mask"]}
        elsewhere = dict.fromkeys(strange, f"not named 'N {word} Image', 'Mask' or 'Lesion', as all of {word}/ are")
        problems += _problem(folder, "misplaced_files", elsewhere, "Move or rename it")
        problems += _problem(folder, "masks_without_image", orphans, "Restore the image")
        problems += _problem(folder, "images_without_mask", bare, "Restore the mask")
    if not records and not problems:
        raise SourceError(f"{folder} holds no images in Benign/ or Malignant/. Unpack BUID there.")
    return Survey(tuple(records), tuple(problems), {"pictures with the lesion's outline": outlines} if outlines else {})


def _files(folder: Path, word: str) -> tuple[dict[str, dict[str, Path]], list[Path]]:
    """The class's files by what they are and by name, as in `1 Benign`, and those that bear no such name."""
    found: dict[str, dict[str, Path]] = {"image": {}, "mask": {}, "lesion": {}}
    strange = []
    for stem, path in sorted(images_by_name(folder, _MASKS).items(), key=lambda item: natural_key(item[0])):
        match = _NAME.fullmatch(" ".join(stem.split()))
        if match and match["word"].casefold() == word.casefold():
            name = f"{match['name'].split()[0]} {word}"
            if found[match["what"].lower()].setdefault(name, path) != path:
                raise SourceError(
                    f"{path} and {found[match['what'].lower()][name]} are both {name!r}. Keep one of them."
                )
        else:
            strange.append(path)
    return found, strange


def _record(name: str, label: int, image: Path, mask: Path | None) -> Record:
    masks = (mask,) if mask else ()
    return Record("buid", name, case=name, label=label, image=image, masks=masks, origin=str(image))


def _problem(root: Path, kind: Kind, paths: Mapping[Path, str], remedy: str) -> list[Problem]:
    """The problem of some paths, each with what is wrong; none where there are none."""
    items = tuple(path.relative_to(root).as_posix() for path in paths)
    shown = some(f"{path}: {what}" for path, what in paths.items())
    return [Problem(kind, items, f"{shown}. {remedy}.")] if items else []


_NAMES = tuple(f"{number} {word}" for word, _, count in _CLASSES for number in range(1, count + 1))
_OFFICIAL = Official(109, 123, cases=232, with_mask=232, names=_NAMES)
SOURCE = Source(
    "buid",
    "BUID",
    survey,
    has_masks=True,
    official=_OFFICIAL,
    not_offered="its owners ask for attribution and state no licence (https://qamebi.com)",
    phantoms=plan_in("buid"),
)
