"""A hospital's own labelled cases: a csv beside its images, or a folder for each label."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bus_mlops.consumer.image_files import images_in
from bus_mlops.errors import SourceError
from bus_mlops.files import is_litter, printable

LABELS = ("benign", "malignant")
FILE, LABEL, PATIENT, SCANNER = "file", "label", "patient", "scanner"
_CALLED = {"benign": 0, "0": 0, "malignant": 1, "1": 1}
_FORMS = (
    f"a csv with the columns {FILE},{LABEL} and, if you have them, {PATIENT},{SCANNER}; or the folders "
    f"{LABELS[0]}/ and {LABELS[1]}/ with images"
)


@dataclass(frozen=True)
class LocalImage:
    """An image of a labelled case; without a patient each image is a case of its own.

    Attributes:
        name: As the csv or the folder has it.
        label: 0 benign, 1 malignant.
        scanner: "" where it is not known.
    """

    path: Path
    name: str
    label: int
    patient: str
    scanner: str = ""


@dataclass(frozen=True)
class LocalCases:
    """The images of a folder, in its order, and what was left out, in words."""

    images: tuple[LocalImage, ...]
    notes: tuple[str, ...] = ()


def read_cases(folder: Path) -> LocalCases:
    """The labelled images of a folder, or of a csv file.

    A file that has the very bytes of an earlier one is left out, since it says nothing new.

    Args:
        folder: With one csv that has the columns file and label, whose files are named from there; or with folders
            benign/ and malignant/. Or that csv itself.

    Raises:
        SourceError: There is no such folder, or it says of no image, of a missing one, or twice otherwise, what it is.
    """
    notes: list[str] = []
    if folder.is_file() and folder.suffix.lower() == ".csv":
        images = list(_of_csv(folder))
    elif not folder.is_dir():
        raise SourceError(f"{printable(folder)} is no folder and no csv file. Name a folder with {_FORMS}.")
    elif (table := _table_in(folder)) is not None:
        images = list(_of_csv(table))
    else:
        images, notes = _of_folders(folder)
    kept, copies = _without_copies(images)
    if copies:
        notes.append(f"{len(copies)} copies of other files are left out: {', '.join(copies[:3])}")
    for label, called in enumerate(LABELS):
        if not any(image.label == label for image in kept):
            raise SourceError(
                f"{printable(folder)} has no {called} image among {len(kept)}: a model cannot be judged without both."
            )
    return LocalCases(tuple(kept), tuple(notes))


def _table_in(folder: Path) -> Path | None:
    """The csv of a folder that names files and labels; None where there is none."""
    tables = [path for path in sorted(folder.glob("*.[cC][sS][vV]")) if not is_litter(path.name)]
    found = [path for path in tables if {FILE, LABEL} <= set(_header(path))]
    if len(found) > 1:
        names = " and ".join(printable(path.name) for path in found[:2])
        raise SourceError(f"{printable(folder)} has {names}, which both name files and labels: name the one to read.")
    if found:
        return found[0]
    if tables and not _label_folders(folder):
        raise SourceError(
            f"{printable(tables[0])} has the columns {', '.join(_header(tables[0])) or '(none)'}, but {FILE} and "
            f"{LABEL} are needed ({PATIENT} and {SCANNER} if you have them). Rename its columns."
        )
    return None


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a csv, whatever it is separated by, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{printable(path)} cannot be read as text: {error}. Save it as csv in UTF-8.") from error
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        reader = csv.reader(text.splitlines(), delimiter=separator)
        yield from ((reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row))
    except csv.Error as error:
        raise SourceError(f"{printable(path)} is no csv: {error}.") from error


def _header(path: Path) -> list[str]:
    return [name.lower() for name in next(_rows(path), (1, list[str]()))[1]]


def _of_csv(path: Path) -> Iterator[LocalImage]:
    header = _header(path)
    lacking = [name for name in (FILE, LABEL) if name not in header]
    if lacking:
        raise SourceError(
            f"{printable(path)} has the columns {', '.join(header) or '(none)'} and lacks {' and '.join(lacking)}."
        )
    if len(set(header)) < len(header):
        raise SourceError(f"{printable(path)} names a column twice: {', '.join(header)}.")
    lines: dict[Path, int] = {}
    for number, row in _rows(path):
        if number == 1:
            continue
        where = f"{printable(path)}, line {number}"
        if len(row) != len(header):
            raise SourceError(f"{where} has {len(row)} values, but there are {len(header)} columns.")
        values = dict(zip(header, row, strict=True))
        label = _CALLED.get(values[LABEL].lower())
        if label is None:
            raise SourceError(
                f"{where}: label must be benign, malignant, 0 or 1 but is {values[LABEL]!r}. Leave out what is "
                "neither: the model knows no third answer."
            )
        file = path.parent / values[FILE]
        if not values[FILE] or not file.is_file():
            raise SourceError(f"{where}: there is no file {printable(file)}. Paths count from the csv's own folder.")
        first = lines.setdefault(file.resolve(), number)
        if first != number:
            raise SourceError(f"{where}: {values[FILE]} stands in line {first} already. Keep one of them.")
        if PATIENT in header and not values[PATIENT]:
            raise SourceError(
                f"{where}: {values[FILE]} has no patient. Name each one's, or take the column {PATIENT} out: then each "
                "image counts as a case of its own."
            )
        yield LocalImage(file, values[FILE], label, values.get(PATIENT, values[FILE]), values.get(SCANNER, ""))


def _label_folders(folder: Path) -> dict[str, Path]:
    folders = (path for path in sorted(folder.iterdir()) if path.is_dir())
    return {path.name.lower(): path for path in folders if path.name.lower() in LABELS}


def _of_folders(folder: Path) -> tuple[list[LocalImage], list[str]]:
    of_label = _label_folders(folder)
    if len(of_label) < len(LABELS):
        there = ", ".join(sorted(printable(path.name) for path in folder.iterdir())[:5]) or "nothing"
        raise SourceError(f"{printable(folder)} holds {there}. Put there {_FORMS}.")
    images, notes = [], []
    for label, called in enumerate(LABELS):
        files, skipped = images_in(of_label[called])
        names = [f"{of_label[called].name}/{file.name}" for file in files]
        images += [LocalImage(file, name, label, name) for file, name in zip(files, names, strict=True)]
        if skipped:
            notes.append(f"skipped in {called}/: {skipped}")
    others = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name.lower() not in LABELS)
    others = [name for name in others if not is_litter(name)]
    if others:
        notes.append(f"other folders are not read: {', '.join(map(printable, others[:3]))}")
    return images, notes


def _without_copies(images: list[LocalImage]) -> tuple[list[LocalImage], list[str]]:
    """The images without those whose bytes an earlier one has, and the names of these."""
    first: dict[str, LocalImage] = {}
    kept, copies = [], []
    for image in images:
        digest = hashlib.sha256(image.path.read_bytes()).hexdigest()
        known = first.setdefault(digest, image)
        if known.label != image.label:
            raise SourceError(
                f"{printable(known.name)} is {LABELS[known.label]} and {printable(image.name)}, the same picture, is "
                f"{LABELS[image.label]}. Only one of them can be right."
            )
        if known is image:
            kept.append(image)
        else:
            copies.append(printable(image.name))
    return kept, copies
