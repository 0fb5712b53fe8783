"""Folds of others, used as they are: the benchmark's own (`folds.zip` or its folder) and those of a source's owner.

Names in the official files carry no source, so all are looked up among the names of all sources. Nothing is repaired:
what does not fit is for `official_report` to say.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from bus_mlops.config import OFFICIAL_FOLDS
from bus_mlops.dataset.folds.assignment import EXTERNAL, TEST, TRAIN, UNUSED, VALIDATION, Folds, fold_columns
from bus_mlops.dataset.folds.make import joined, require_both_labels
from bus_mlops.dataset.folds.sealed import require_judgeable
from bus_mlops.errors import DatasetError
from bus_mlops.files import read_json
from bus_mlops.sources.record import strip_suffix

if TYPE_CHECKING:
    import pandas as pd

    from bus_mlops.sources.source import Source

FILES = {"train.csv": TRAIN, "valid.csv": VALIDATION, "test.csv": TEST}
HEADER = ["img name", "tumor types"]
IMPORTED_FILE = "folds.csv"
REPORT_FILE = "report.json"
_COLUMNS = ["fold", "part", "name", "label", "image_id"]
# The real files have about 2,500 rows of 20 bytes; what is far larger is something else, or a trap.
_LARGEST_FILE = 4 * 2**20
_LARGEST_ARCHIVE = 64 * 2**20
_MOST_MEMBERS = 1000
_MOST_FOLDS = 10
_HOW_TO_IMPORT = {
    "official": "Download folds.zip from the benchmark's site and run `bus-mlops folds import folds.zip`.",
    "published": "Run `bus-mlops folds import` with the table of folds in the source's folder.",
}
_EXPECTED = "Expected is the benchmark's folds.zip: folder1 to folder5, each with train.csv, valid.csv and test.csv."


class OfficialRow(NamedTuple):
    """One image in one fold: label 0 benign or 1 malignant; a name without source."""

    fold: int
    part: str
    name: str
    label: int


def read_official(path: Path) -> list[OfficialRow]:
    """The rows of folds.zip or of its unpacked folder, in the order of folds, parts and lines.

    Nothing is written to the disk.

    Raises:
        DatasetError: Names file and line of anything that is not what the benchmark delivers: a missing or second
            file, a path that leaves the archive, a file that is far too large (also once unpacked), an encoding other
            than UTF-8, other columns, a label that is not 0 or 1.
    """
    contents = _from_folder(path) if path.is_dir() else _from_zip(path)
    absent = [f"folder{fold}/{name}" for fold in _numbers() for name in FILES if (fold, name) not in contents]
    if absent:
        raise DatasetError(f"{path} lacks {', '.join(absent)}. {_EXPECTED}")
    return [
        OfficialRow(fold, part, *row)
        for fold in _numbers()
        for file, part in FILES.items()
        for row in _rows(contents[fold, file], f"{path}: folder{fold}/{file}")
    ]


def read_published(path: Path, sources: Iterable[Source]) -> tuple[str, list[OfficialRow]]:
    """The name of the source whose owner publishes a table of folds, and its rows.

    Raises:
        DatasetError: No source has a table of that name.
        SourceError: It is missing or malformed.
    """
    publishing = [source for source in sources if source.folds]
    for source in publishing:
        if source.folds and path.name.casefold() in map(str.casefold, source.folds.tables.values()):
            return source.name, [OfficialRow(*placed) for placed in source.folds.read(path)]
    known = "; ".join(f"{s.name}: {', '.join(s.folds.tables.values())}" for s in publishing if s.folds)
    raise DatasetError(f"{path} is no table of folds that an owner publishes. Known are: {known}.")


def match(rows: Iterable[OfficialRow], manifest: pd.DataFrame) -> pd.DataFrame:
    """Look each row's name up among the images of all sources.

    Names are text and keep their leading zeros: without them, one source's names would be those of another.

    Returns:
        fold, part, name, label, image_id, candidates; `image_id` is empty unless exactly one image bears the name.
    """
    import pandas as pd

    known: dict[str, list[str]] = {}
    for name, image in zip(manifest["name"], manifest["image_id"], strict=True):
        known.setdefault(name, []).append(image)
    records = []
    for row in rows:
        found = sorted(known.get(row.name) or known.get(strip_suffix(row.name), []))
        records.append((*row, found[0] if len(found) == 1 else "", found))
    return pd.DataFrame(records, columns=[*_COLUMNS, "candidates"])


def write_imported(matched: pd.DataFrame, path: Path) -> None:
    """Keep the rows as they were read, each with the image that it was matched to."""
    matched[_COLUMNS].to_csv(path, index=False, lineterminator="\n")


def read_imported(folder: Path, kind: str = "official", count: int = OFFICIAL_FOLDS) -> list[OfficialRow]:
    """The rows that `bus-mlops folds import` kept.

    Args:
        folder: Where it kept them.
        kind: What they must be; of earlier imports, which did not say, all are official.
        count: How many folds there must be.

    Raises:
        DatasetError: There are none, they are others, or they are as many.
    """
    path = folder / IMPORTED_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise DatasetError(f"{path} not found: the {kind} folds are not imported. {_HOW_TO_IMPORT[kind]}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error}. Run `bus-mlops folds import` again.") from error
    known = {str(fold): fold for fold in range(1, _MOST_FOLDS + 1)}
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if lines[0] != _COLUMNS or len(line) != len(_COLUMNS) or line[0] not in known:
            raise DatasetError(f"{path}: line {number} is not as imported. Run `bus-mlops folds import` again.")
        fold, part, name, label, _ = line
        if part not in FILES.values() or label not in ("0", "1"):
            raise DatasetError(f"{path}: line {number} has part {part!r}, label {label!r}. Import it again.")
        rows.append(OfficialRow(known[fold], part, name, int(label)))
    if not rows:
        raise DatasetError(f"{path} is empty. Run `bus-mlops folds import` again.")
    found, there = _imported_kind(folder), max(row.fold for row in rows)
    if found != kind:
        raise DatasetError(f"{path} holds {found} folds, folds.kind asks for {kind}. {_HOW_TO_IMPORT[kind]}")
    if there != count:
        raise DatasetError(
            f"{path} holds {there} folds, folds.count is {count}. Set folds.count in params.yaml to {there}, or "
            "import others."
        )
    return rows


def _imported_kind(folder: Path) -> str:
    try:
        return str(read_json(folder / REPORT_FILE).get("kind", "official"))
    except FileNotFoundError:
        return "official"
    except (ValueError, AttributeError, OSError) as error:
        raise DatasetError(f"{folder / REPORT_FILE} cannot be read: {error!r}. Import the folds again.") from error


def official_folds(
    rows: Sequence[OfficialRow],
    manifest: pd.DataFrame,
    groups: pd.DataFrame,
    external: Collection[str] = (),
    kind: str = "official",
) -> pd.DataFrame:
    """The folds frame of imported folds: every image of the benchmark, `unused` where they do not name it.

    Labels are those of the sources, cases and groups our own. Images of `external` sources are in no fold, also where
    the official ones name them.

    Raises:
        DatasetError: An image lies in two parts of one fold or is tested in two folds: no training can be that.
    """
    frame = joined(manifest, groups)
    place = {image: i for i, image in enumerate(frame["image_id"])}
    columns = {fold: [UNUSED] * len(frame) for fold in range(1, max(row.fold for row in rows) + 1)}
    matched = match(rows, manifest)
    named = matched[matched["image_id"] != ""]
    for fold, part, image in zip(named["fold"], named["part"], named["image_id"], strict=True):
        before = columns[fold][place[image]]
        if before not in (UNUSED, part):
            raise DatasetError(
                f"{kind} folds: fold {fold} names {image} in {before} and in {part}, so it cannot be used as it is. "
                "Is the download complete and untouched? The report of `bus-mlops folds import` lists all of them."
            )
        columns[fold][place[image]] = part
    for fold, parts in columns.items():
        frame[f"fold_{fold}"] = parts
    frame.loc[frame["source"].isin(list(external)), fold_columns(frame)] = EXTERNAL
    require_both_labels(frame, f"Put more of the sources that the {kind} folds name into data.root.")
    require_judgeable(frame, external)
    Folds.checked(frame, f"{kind} folds", kind=kind)
    return frame


def _numbers() -> range:
    return range(1, OFFICIAL_FOLDS + 1)


def _from_folder(path: Path) -> dict[tuple[int, str], bytes]:
    inner = [path, *sorted(each for each in path.iterdir() if each.is_dir() and each.name != "__MACOSX")]
    base = next((each for each in inner if (each / "folder1").is_dir()), path)
    contents = {}
    for fold in _numbers():
        for name in FILES:
            file = base / f"folder{fold}" / name
            if not file.is_file():
                continue
            with file.open("rb") as stream:
                contents[fold, name] = _bounded(stream.read(_LARGEST_FILE + 1), str(file))
    return contents


def _from_zip(path: Path) -> dict[tuple[int, str], bytes]:
    if not path.is_file():
        raise DatasetError(f"{path} not found. {_EXPECTED}")
    if path.stat().st_size > _LARGEST_ARCHIVE:
        raise DatasetError(f"{path} has {path.stat().st_size / 2**20:.0f} MiB, far more than folds.zip. {_EXPECTED}")
    try:
        with zipfile.ZipFile(path) as archive:
            chosen = _members(archive, path)
            return {key: _unpacked(archive, info, path) for key, info in chosen.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError) as error:
        # RuntimeError: encrypted; NotImplementedError: a compression that zip knows and Python does not
        raise DatasetError(f"{path} cannot be read as a zip file: {error}. {_EXPECTED}") from error


def _members(archive: zipfile.ZipFile, path: Path) -> Mapping[tuple[int, str], zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise DatasetError(f"{path} holds {len(infos)} files. {_EXPECTED}")
    found: dict[tuple[int, str], zipfile.ZipInfo] = {}
    prefixes = set()
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or re.match(r"^[A-Za-z]:", str(name)):
            raise DatasetError(f"{path} holds {info.filename!r}, a path that leaves the archive. {_EXPECTED}")
        fold = re.fullmatch(rf"folder([1-{OFFICIAL_FOLDS}])", name.parent.name)
        if fold is None or name.name not in FILES or "__MACOSX" in name.parts:
            continue
        key = (int(fold[1]), name.name)
        prefixes.add(name.parent.parent)
        if key in found or len(prefixes) > 1:
            raise DatasetError(f"{path} holds folder{key[0]}/{key[1]} more than once. {_EXPECTED}")
        found[key] = info
    return found


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    # The size in the header may lie, so what counts is what comes out.
    with archive.open(info) as stream:
        return _bounded(stream.read(_LARGEST_FILE + 1), f"{path}: {info.filename}")


def _bounded(content: bytes, where: str) -> bytes:
    if len(content) > _LARGEST_FILE:
        raise DatasetError(f"{where} holds more than {_LARGEST_FILE // 2**20} MiB unpacked. {_EXPECTED}")
    return content


def _rows(content: bytes, where: str) -> list[tuple[str, int]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{where} is not UTF-8 ({error.reason} at byte {error.start}): was it saved by a spreadsheet? {_EXPECTED}"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, int]] = []
    try:
        header = next(reader, [])
        if len(header) != 3 or [cell.strip() for cell in header[1:]] != HEADER:
            raise DatasetError(f"{where} has the columns {header[:8]}, expected an unnamed one and {HEADER}.")
        for line in reader:
            if not line:
                continue
            if len(line) != 3 or line[2].strip() not in ("0", "1") or not line[1].strip():
                raise DatasetError(
                    f"{where}, line {reader.line_num}: {line[:8]} is not an index, a name and a label 0 or 1. Take the "
                    "file as the benchmark delivers it."
                )
            rows.append((line[1].strip(), int(line[2])))
    except csv.Error as error:
        raise DatasetError(f"{where}, line {reader.line_num}: {error}. {_EXPECTED}") from error
    if not rows:
        raise DatasetError(f"{where} lists no image. {_EXPECTED}")
    return rows
