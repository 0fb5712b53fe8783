"""Metadata tables of the sources, CSV and XLSX, as rows of text that know where they stand."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus_mlops.errors import SourceError
from bus_mlops.sources.record import locate


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the required columns as stripped text, and where it stands."""

    where: str
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def text(self, column: str) -> str:
        """The value, which must not be empty and must not climb out of its folder when used as a name."""
        value = self.values[column]
        if not value:
            raise SourceError(f"{self.where}: column {column!r} is empty. Fill it in, or take the row out.")
        if "/" in value or "\\" in value or "\0" in value:
            raise SourceError(f"{self.where}: {column} = {value!r} must be a plain name without a path.")
        return value

    def texts(self, column: str, separator: str) -> list[str]:
        """The plain names that a separator stands between; none where the value is empty."""
        return [part.strip() for part in self.text(column).split(separator)] if self.values[column] else []

    def integer(self, column: str) -> int:
        """The value as a whole number of pixels, `12` or `12.0`."""
        value = self.values[column]
        try:
            number = float(value)
            if not (value.isascii() and number.is_integer()):
                raise ValueError(value)
        except (ValueError, OverflowError):
            raise SourceError(
                f"{self.where}: {column} = {value!r} is not a whole number of pixels. Correct the row."
            ) from None
        return int(number)


def find_table(folder: Path, names: Sequence[str]) -> Path:
    """The first of `names` that is a file in the folder, or up to three levels deeper.

    Raises:
        SourceError: None is, and it names all that were tried; or there are several places, and it names them.
    """
    found = locate(folder, names)
    if found and found.is_file():
        return found
    raise SourceError(
        f"{' or '.join(names)} not found in {folder}. It holds the labels: put the source's own table there."
    )


def read_table(path: Path, columns: Sequence[str], numbers: Collection[str] = ()) -> list[Row]:
    """The rows of a .csv or .xlsx that hold anything in the required columns; others are legend or blank.

    A byte-order mark is accepted, and a semicolon or tab between the values.

    Args:
        path: The table.
        columns: The required ones; how they are spelt counts, upper or lower case does not.
        numbers: Those of them where a workbook may hold whole numbers, which are nobody's name.

    Raises:
        SourceError: A column is missing, the encoding is not UTF-8, the file is no table, or it has no rows.
    """
    lines = _xlsx_lines(path) if path.suffix.lower() == ".xlsx" else _csv_lines(path, columns)
    header_line = next(lines, None)
    if header_line is None:
        raise SourceError(f"{path} is empty. Download it again from the source's site.")
    header = [str(cell or "").strip() for cell in header_line[1]]
    places = {column: _place(path, header, column) for column in columns}
    rows = []
    for number, cells in lines:
        where = f"{path} row {number}"
        values = {
            column: _text(cells[i] if i < len(cells) else None, where, column, column in numbers)
            for column, i in places.items()
        }
        if any(values.values()):
            rows.append(Row(where, values))
    if not rows:
        raise SourceError(f"{path} has a header but no rows. Download it again from the source's site.")
    return rows


def _place(path: Path, header: Sequence[str], column: str) -> int:
    found = [i for i, name in enumerate(header) if name.casefold() == column.casefold()]
    if len(found) == 1:
        return found[0]
    problem = "is missing" if not found else f"occurs {len(found)} times"
    raise SourceError(
        f"{path}: column {column!r} {problem}; the header reads {', '.join(header)!r}. "
        "Use the source's own table, comma-separated and with its header."
    )


def _text(cell: Any, where: str, column: str, may_be_number: bool) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.strip()
    if may_be_number and isinstance(cell, int | float) and float(cell).is_integer():
        return str(int(cell))
    # A spreadsheet program that made "000012" the number 12 has lost the zeros that tell names apart.
    raise SourceError(
        f"{where}: {column} = {cell!r} is stored as {type(cell).__name__}, not as text; leading zeros may be "
        "lost. Use the source's own file, or format the column as text."
    )


def _csv_lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}). "
            "Use the source's own file, or save it as 'CSV UTF-8'."
        ) from None
    separator = next((each for each in ",;\t" if _has_columns(text, each, columns)), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise SourceError(
            f"{path} row {reader.line_num}: not valid CSV ({error}). Correct the row, or download it again."
        ) from None


def _has_columns(text: str, separator: str, columns: Sequence[str]) -> bool:
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
    except csv.Error:
        return False
    return {column.casefold() for column in columns} <= {name.strip().casefold() for name in header}


def _xlsx_lines(path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        lines = [tuple(cells) for cells in sheet.iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # a broken zip or XML surfaces as any of a dozen exceptions
        raise SourceError(
            f"{path} is not a readable .xlsx ({type(error).__name__}: {error}). Download it again."
        ) from error
    yield from enumerate(lines, start=1)
