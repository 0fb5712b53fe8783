"""Folds that a source's owner publishes with it, as a table: where an image is tested, and its part elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bus_mlops.errors import SourceError
from bus_mlops.sources.record import parse_label, strip_suffix
from bus_mlops.sources.tables import Row, read_table


class Placed(NamedTuple):
    """One image in one fold: `part` is train, validation or test, label 0 benign or 1 malignant."""

    fold: int
    part: str
    name: str
    label: int


@dataclass(frozen=True)
class PublishedFolds:
    """How a source's tables of folds are laid out: a row an image, a column of the tested fold, a column for each fold.

    In `valid_k` an image is NaN where fold k tests it, else 0 or 1. Which of the two is training is nowhere said: the
    smaller class is taken for validation.

    Attributes:
        tables: Names of the tables by their number of folds.
    """

    tables: dict[int, str]
    name: str = "ID"
    label: str = "Pathology"
    tested: str = "kFold"
    part: str = "valid_"

    def read(self, path: Path) -> list[Placed]:
        """Every image in every fold, as the table says.

        Raises:
            SourceError: The table is missing or malformed, lists an image twice, or contradicts itself; names the row.
        """
        known = {name.casefold(): count for count, name in self.tables.items()}
        count = known.get(path.name.casefold())
        if count is None or not path.is_file():
            raise SourceError(f"{path} is none of {', '.join(self.tables.values())}, the folds that are published.")
        columns = [f"{self.part}{fold}" for fold in range(1, count + 1)]
        rows = read_table(path, [self.name, self.label, self.tested, *columns])
        self._require_consistent(rows, columns)
        placed = []
        for fold, column in enumerate(columns, start=1):
            validating = _smaller(rows, column)
            for row in rows:
                given = _given(row, column)
                part = "test" if given is None else "validation" if given == validating else "train"
                name = strip_suffix(row.text(self.name))
                placed.append(Placed(fold, part, name, parse_label(row[self.label], row.where)))
        return placed

    def _require_consistent(self, rows: Sequence[Row], columns: Sequence[str]) -> None:
        seen: dict[str, str] = {}
        for row in rows:
            name = row.text(self.name)
            if seen.setdefault(name, row.where) != row.where:
                raise SourceError(f"{row.where}: {name!r} is listed already by {seen[name]}. Keep one row.")
            tested = [column for column in columns if _given(row, column) is None]
            expected = f"{self.part}{row[self.tested]}"
            if tested != [expected]:
                raise SourceError(
                    f"{row.where}: {self.tested} is {row[self.tested]!r}, but {', '.join(tested) or 'no column'} is "
                    f"empty or NaN, where {expected} alone should be. Take the table as its owner delivers it."
                )


def _given(row: Row, column: str) -> str | None:
    """0 or 1, or None where the fold tests the image."""
    value = row[column].strip()
    if value.casefold() in ("", "nan"):
        return None
    number = value.removesuffix(".0")
    if number not in ("0", "1"):
        raise SourceError(f"{row.where}: {column} = {value!r} is neither 0, 1 nor NaN. Correct the row.")
    return number


def _smaller(rows: Sequence[Row], column: str) -> str:
    """The value of the fewer images in a fold, 0 or 1."""
    counts = Counter(given for row in rows if (given := _given(row, column)) is not None)
    if len(counts) < 2 or counts["0"] == counts["1"]:
        raise SourceError(
            f"{rows[0].where.partition(' row ')[0]}: {column} holds {counts['0']} images of 0 and {counts['1']} of 1, "
            "so that nothing says which of them validate. Take the table as its owner delivers it."
        )
    return min(counts, key=lambda value: counts[value])
