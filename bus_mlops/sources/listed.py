"""Reading of a source whose table lists its images: shared by HMSS, BUSIS, Thammasat and Dataset B."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus_mlops.errors import SourceError
from bus_mlops.sources.base import (
    Crop,
    Missing,
    Record,
    existing_folder,
    images_by_name,
    parse_label,
    require_unique,
    strip_suffix,
)
from bus_mlops.sources.tables import Row, find_table, read_table

CROP_COLUMNS = ("crop r1", "crop r2", "crop col1", "crop col2")


@dataclass(frozen=True)
class ListedSource:
    """What tells one table-led source from another.

    `case` is the column of the case id, None where every image is its own case; `mask` makes a mask's name
    from a row; `crop` turns the four crop columns into a rectangle.
    """

    source: str
    tables: Sequence[str]
    image_folders: Sequence[str]
    name: str
    label: str
    benign: str = "benign"
    malignant: str = "malignant"
    case: str | None = None
    mask_folders: Sequence[str] = ()
    mask: Callable[[Row], str] | None = None
    extra_columns: Sequence[str] = ()
    crop: Callable[[int, int, int, int], Crop] | None = None

    def read(self, folder: Path) -> list[Record]:
        """The records of the source, in the table's order; raises SourceError naming file, row and value."""
        table = find_table(folder, self.tables)
        columns = [self.name, self.label, *([self.case] if self.case else []), *self.extra_columns]
        rows = read_table(table, columns + list(CROP_COLUMNS if self.crop else ()))
        image_folder = existing_folder(folder, self.image_folders, f"the images of {self.source}")
        images = images_by_name(image_folder)
        missing_images, missing_masks = Missing(table), Missing(table)
        mask_folder, masks = folder, dict[str, Path]()
        if self.mask:
            mask_folder = existing_folder(folder, self.mask_folders, f"the masks of {self.source}")
            masks = images_by_name(mask_folder)
        records = []
        for row in rows:
            name = strip_suffix(row.text(self.name))
            image = missing_images.find(images, name, image_folder, row.where)
            mask = missing_masks.find(masks, self.mask(row), mask_folder, row.where) if self.mask else None
            record = Record(
                source=self.source,
                name=name,
                case=row.text(self.case) if self.case else name,
                label=parse_label(row[self.label], row.where, self.benign, self.malignant),
                image=image or Path(),
                masks=(mask,) if mask else (),
                crop=self._crop(row),
                origin=row.where,
            )
            records.append(record)
        require_unique(records)
        missing_images.stop("image")
        missing_masks.stop("mask")
        return records

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
