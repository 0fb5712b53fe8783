"""Surveying a source whose table lists its images, one row an image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.errors import SourceError
from bus_mlops.sources.record import (
    NORMAL,
    Crop,
    Findings,
    Record,
    existing_folder,
    folder_of_images,
    images_by_name,
    parse_label,
    strip_suffix,
)
from bus_mlops.sources.source import Kind, Problem, Survey, some
from bus_mlops.sources.tables import Row, find_table, read_table

if TYPE_CHECKING:
    from bus_mlops.images.masks import Rgb

CROP_COLUMNS = ("crop r1", "crop r2", "crop col1", "crop col2")


@dataclass(frozen=True)
class ListedSource:
    """What tells one table-led source from another.

    Attributes:
        tables: Names of the table; the first that is there counts.
        image_folders: Names of the folder of images; the first that is there counts. Empty: whichever holds images.
        image_parts: Of a source whose images lie in several folders: all of their names, instead of `image_folders`.
        name: The column of the image's name.
        label: The column of the label, or what makes its word from a row.
        suffix: The usual one of its files.
        normal: The word for an image without a lesion, where there are any.
        case: The column of the case id, or what makes it from a row; None where every image is its own case.
        mask_folders: As `image_folders`; empty where masks lie beside the images.
        masks: Makes the names of an image's masks from a row.
        masks_may_not_fit: Some masks are known to have another size than their image, so that sizes are compared.
        mask_colors: Of each label, as in a record.
        beside: Makes the names of files from a row that belong to an image and are not read, counted as `beside_what`.
        extra_columns: The other columns that `findings` and the like need.
        numbers: Columns where a workbook may hold numbers.
        crop: Turns the four crop columns into a rectangle.
        findings: Reads from a row what the source says beside the label.
    """

    source: str
    tables: Sequence[str]
    image_folders: Sequence[str]
    name: str
    label: str | Callable[[Row], str]
    suffix: str = ".png"
    benign: str = "benign"
    malignant: str = "malignant"
    normal: str | None = None
    case: str | Callable[[Row], str] | None = None
    image_parts: Sequence[str] = ()
    mask_folders: Sequence[str] = ()
    masks: Callable[[Row], Sequence[str]] | None = None
    masks_may_not_fit: bool = False
    mask_colors: Sequence[tuple[Rgb, ...]] = ((), ())
    beside: Callable[[Row], Sequence[str]] | None = None
    beside_what: str = ""
    extra_columns: Sequence[str] = ()
    numbers: Collection[str] = ()
    crop: Callable[[int, int, int, int], Crop] | None = None
    findings: Callable[[Row], Findings] | None = None

    def survey(self, folder: Path) -> Survey:
        """The records in the table's order, and every row and file that does not fit.

        Raises:
            SourceError: Table, columns or folders are missing.
        """
        table = find_table(folder, self.tables)
        rows = read_table(table, self._columns(), self.numbers)
        images = _Files(self._image_folders(folder), self.suffix)
        masks = images
        if self.mask_folders:
            masks = _Files([existing_folder(folder, self.mask_folders, f"the masks of {self.source}")], self.suffix)
        records, bad, unfit = dict[str, Record](), list[tuple[str, str]](), list[tuple[Path, Path]]()
        uncropped, beside = list[str](), 0
        for row in rows:
            try:
                record = self._record(row, images, masks)
                _require_new(record, records)
                records[record.name] = record
                uncropped += [row.where] if self.crop and record.crop is None else []
                beside += sum(bool(images.find(name, row.where, "beside")) for name in self._beside(row))
                if self.masks_may_not_fit and record.label != NORMAL:
                    wrong = [mask for mask in record.masks if not _fits(mask, record.image)]
                    unfit += [(mask, record.image) for mask in wrong]
                    if wrong:
                        records[record.name] = replace(record, masks=())
            except SourceError as error:
                bad.append((row.where, str(error)))
        problems = [
            _bad_rows(bad),
            _without_crop(uncropped),
            images.missing(table, "image", "missing_images"),
            masks.missing(table, "mask", "missing_masks"),
            _unfit(folder, unfit),
            images.missing(table, "beside", "missing_masks", stops=False),
            images.unlisted(table, "image"),
            masks.unlisted(table, "mask") if masks is not images else None,
        ]
        there = [record for record in records.values() if record.image != Path()]
        return Survey(
            tuple(record for record in there if record.label != NORMAL),
            tuple(problem for problem in problems if problem),
            {self.beside_what: beside} if beside else {},
            tuple(record for record in there if record.label == NORMAL),
        )

    def _image_folders(self, folder: Path) -> list[Path]:
        what = f"the images of {self.source}"
        if not (self.image_parts or self.image_folders):
            return [folder_of_images(folder, what)]
        places: list[Sequence[str]] = [[name] for name in self.image_parts] or [self.image_folders]
        return [existing_folder(folder, names, what) for names in places]

    def _columns(self) -> list[str]:
        named = [each for each in (self.name, self.label, self.case) if isinstance(each, str)]
        return list(dict.fromkeys([*named, *self.extra_columns, *(CROP_COLUMNS if self.crop else ())]))

    def _beside(self, row: Row) -> Iterable[str]:
        return self.beside(row) if self.beside else ()

    def _record(self, row: Row, images: _Files, masks: _Files) -> Record:
        name = strip_suffix(row.text(self.name))
        image = images.find(name, row.where, "image")
        named = self.masks(row) if self.masks else ()
        masks.named.update(map(strip_suffix, named))  # also where the row is wrong
        word = row[self.label] if isinstance(self.label, str) else self.label(row)
        label = parse_label(word, row.where, self.benign, self.malignant, self.normal)
        if label == NORMAL:  # has nothing to mark; a mask that is there is black
            named = [each for each in named if strip_suffix(each) in masks.files]
        elif self.masks and not named:
            raise SourceError(f"{row.where}: {name!r} is called {word!r} and has no mask. Correct the row.")
        found = [masks.find(each, row.where, "mask") for each in named]
        return Record(
            source=self.source,
            name=name,
            case=self._case(row) or name,
            label=label,
            image=image or Path(),
            masks=tuple(path for path in found if path) if all(found) else (),
            crop=self._crop(row),
            origin=row.where,
            findings=self.findings(row) if self.findings else Findings(),
            mask_colors=() if label == NORMAL else self.mask_colors[label],
        )

    def _case(self, row: Row) -> str:
        if self.case is None:
            return ""
        return row.text(self.case) if isinstance(self.case, str) else self.case(row)

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
    """The files of folders, which of them the table names, and which it names that are not there, by what they are."""

    folders: Sequence[Path]
    suffix: str
    files: dict[str, Path] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    absent: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in self.folders:
            for name, path in images_by_name(folder).items():
                if self.files.setdefault(name, path) != path:
                    raise SourceError(
                        f"{self.files[name]} and {path} have one name, and nothing says which is meant. Keep one."
                    )

    def find(self, name: str, where: str, what: str) -> Path | None:
        name = strip_suffix(name)
        self.named.add(name)
        if name not in self.files:
            self.absent.setdefault(what, {}).setdefault(name, where)
        return self.files.get(name)

    def missing(self, table: Path, what: str, kind: Kind, stops: bool = True) -> Problem | None:
        absent = self.absent.get(what)
        if not absent:
            return None
        shown = some([f"{where} names {name!r}" for name, where in absent.items()])
        place = " or ".join(folder.name for folder in self.folders)
        noun = f"{what}(s)" if stops else "file(s) that are not read and"
        return Problem(
            kind,
            tuple(f"{place}/{name}{self.suffix}" for name in absent),
            f"{table} lists {len(absent)} {noun} that are not in {' or '.join(map(str, self.folders))}: {shown}. "
            + ("Put the files there, or take the rows out of the table." if stops else "Nothing depends on them."),
            stops,
        )

    def unlisted(self, table: Path, what: str) -> Problem | None:
        """Files that no row names: they are left out, which is said but stops nothing."""
        names = [f"{path.parent.name}/{path.name}" for name, path in self.files.items() if name not in self.named]
        if not names:
            return None
        kind: Kind = "unlisted_images" if what == "image" else "masks_without_image"
        where = " and ".join(map(str, self.folders))
        message = f"{where} holds {len(names)} {what}(s) that {table.name} does not list: {some(names)}."
        return Problem(kind, tuple(names), f"{message} They are left out.", stops=False)


def _fits(mask: Path, image: Path) -> bool:
    """Whether both have one size by their headers; a file that cannot be opened is for others to name."""
    from PIL import Image

    try:
        with Image.open(mask) as one, Image.open(image) as other:
            return one.size == other.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True


def _unfit(folder: Path, pairs: Sequence[tuple[Path, Path]]) -> Problem | None:
    if not pairs:
        return None
    names = tuple(mask.relative_to(folder).as_posix() for mask, _ in pairs)
    message = f"{len(pairs)} mask(s) have another size than their image, so that nobody knows where in it they lie: "
    remedy = "Restore both from the source, if it has others."
    return Problem("unfit_masks", names, f"{folder}: {message}{some(names)}. {remedy}")


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
