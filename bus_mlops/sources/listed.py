"""Surveying a source whose table lists its images, one row an image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bus_mlops.errors import SourceError
from bus_mlops.sources.record import Crop, Findings, Record, existing_folder, images_by_name, parse_label, strip_suffix
from bus_mlops.sources.source import Kind, Problem, Survey, some
from bus_mlops.sources.tables import Row, find_table, read_table

CROP_COLUMNS = ("crop r1", "crop r2", "crop col1", "crop col2")


@dataclass(frozen=True)
class ListedSource:
    """What tells one table-led source from another.

    Attributes:
        case: The column of the case id, None where every image is its own case.
        mask: Makes a mask's name from a row.
        crop: Turns the four crop columns into a rectangle.
        findings: Reads from a row, whose `extra_columns` it needs, what the source says beside the label.
        suffix: The usual one of its files.
    """

    source: str
    tables: Sequence[str]
    image_folders: Sequence[str]
    name: str
    label: str
    suffix: str = ".png"
    benign: str = "benign"
    malignant: str = "malignant"
    case: str | None = None
    mask_folders: Sequence[str] = ()
    mask: Callable[[Row], str] | None = None
    extra_columns: Sequence[str] = ()
    crop: Callable[[int, int, int, int], Crop] | None = None
    findings: Callable[[Row], Findings] | None = None

    def survey(self, folder: Path) -> Survey:
        """The records in the table's order, and every row and file that does not fit.

        Raises:
            SourceError: Table, columns or folders are missing.
        """
        table = find_table(folder, self.tables)
        columns = [self.name, self.label, *([self.case] if self.case else []), *self.extra_columns]
        rows = read_table(table, columns + list(CROP_COLUMNS if self.crop else ()))
        images = _Files(existing_folder(folder, self.image_folders, f"the images of {self.source}"), self.suffix)
        masks = None
        if self.mask:
            masks = _Files(existing_folder(folder, self.mask_folders, f"the masks of {self.source}"), self.suffix)
        records, bad = dict[str, Record](), list[tuple[str, str]]()
        uncropped = list[str]()
        for row in rows:
            try:
                record = self._record(row, images, masks)
                _require_new(record, records)
                records[record.name] = record
                uncropped += [row.where] if self.crop and record.crop is None else []
            except SourceError as error:
                bad.append((row.where, str(error)))
        problems = [
            _bad_rows(bad),
            _without_crop(uncropped),
            images.missing(table, "image", "missing_images"),
            images.unlisted(table, "image"),
        ]
        if masks:
            problems += [masks.missing(table, "mask", "missing_masks"), masks.unlisted(table, "mask")]
        kept = tuple(record for record in records.values() if record.image != Path())
        return Survey(kept, tuple(problem for problem in problems if problem))

    def _record(self, row: Row, images: _Files, masks: _Files | None) -> Record:
        name = strip_suffix(row.text(self.name))
        image = images.find(name, row.where)
        mask = masks.find(self.mask(row), row.where) if masks and self.mask else None
        return Record(
            source=self.source,
            name=name,
            case=row.text(self.case) if self.case else name,
            label=parse_label(row[self.label], row.where, self.benign, self.malignant),
            image=image or Path(),
            masks=(mask,) if mask else (),
            crop=self._crop(row),
            origin=row.where,
            findings=self.findings(row) if self.findings else Findings(),
        )

    def _crop(self, row: Row) -> Crop | None:
        if self.crop is None or not any(row[column] for column in CROP_COLUMNS):
            return None
        r1, r2, col1, col2 = (row.integer(column) for column in CROP_COLUMNS)
        crop = self.crop(r1, r2, col1, col2)
        if crop.height < 1 or crop.width < 1 or crop.top < 0 or crop.left < 0:
            raise SourceError(
                f"{row.where}: crop r1 {r1}, r2 {r2}, col1 {col1}, col2 {col2} is no rectangle inside an "
                f"image (top {crop.top}, left {crop.left}, {crop.height} x {crop.width} pixels). Correct the row."
            )
        return crop


@dataclass
class _Files:
    """The files of a folder, which of them the table names, and which it names that are not there."""

    folder: Path
    suffix: str
    files: dict[str, Path] = field(init=False)
    named: set[str] = field(default_factory=set)
    absent: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = images_by_name(self.folder)

    def find(self, name: str, where: str) -> Path | None:
        self.named.add(name)
        if name not in self.files:
            self.absent.setdefault(name, where)
        return self.files.get(name)

    def missing(self, table: Path, what: str, kind: Kind) -> Problem | None:
        if not self.absent:
            return None
        shown = some([f"{where} names {name!r}" for name, where in self.absent.items()])
        return Problem(
            kind,
            tuple(f"{self.folder.name}/{name}{self.suffix}" for name in self.absent),
            f"{table} lists {len(self.absent)} {what}(s) that are not in {self.folder}: {shown}. "
            "Put the files there, or take the rows out of the table.",
        )

    def unlisted(self, table: Path, what: str) -> Problem | None:
        """Files that no row names: they are left out, which is said but stops nothing."""
        names = [f"{self.folder.name}/{path.name}" for name, path in self.files.items() if name not in self.named]
        if not names:
            return None
        kind: Kind = "unlisted_images" if what == "image" else "masks_without_image"
        message = f"{self.folder} holds {len(names)} {what}(s) that {table.name} does not list: {some(names)}."
        return Problem(kind, tuple(names), f"{message} They are left out.", stops=False)


def _require_new(record: Record, known: dict[str, Record]) -> None:
    if record.name in known:
        raise SourceError(
            f"{record.origin}: image name {record.name!r} was already used by {known[record.name].origin}. "
            "Names must be unique within a source: take out one of the two."
        )


def _without_crop(places: Sequence[str]) -> Problem | None:
    """Rows whose crop is empty: the whole picture is taken, which is said but stops nothing."""
    if not places:
        return None
    message = (
        f"{len(places)} row(s) have no crop, so the whole screen is taken: {some(places)}. Fill the crop in, or take "
    )
    return Problem("rows_without_crop", tuple(places), message + "the rows out, unless that is meant.", stops=False)


def _bad_rows(bad: Collection[tuple[str, str]]) -> Problem | None:
    if not bad:
        return None
    return Problem("bad_rows", tuple(where for where, _ in bad), "\n  ".join(message for _, message in bad))
