"""`check_source`: what every source must satisfy, on a good copy of it and on copies that are damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bus_mlops.errors import SourceError
from bus_mlops.images.masks import decode_mask
from bus_mlops.sources.phantoms.plan import Phantom
from bus_mlops.sources.phantoms.write import draw_phantoms
from bus_mlops.sources.record import IMAGE_SUFFIXES, NORMAL, Record
from bus_mlops.sources.source import Source, Survey
from bus_mlops.sources.verify import Counts, Report, verify
from bus_mlops.testing.contract import ContractError, require

_FUZZED = 25  # damaged versions of each table
_PHANTOMS = ((1, 0), (2, 0), (3, 0), (36, 4))  # images in all, of which near copies


def check_source(source: Source, folder: Path, *, images_are_listed: bool = True) -> None:
    """Check a source against a small, whole copy of it, which is left as it is.

    Reading is deterministic and changes no file; names are unique, labels 0 or 1, files there, masks there for all
    or none as `has_masks` says, crops inside their images. Files of the operating system disturb nothing. A copy
    with a missing image or mask, a damaged image or a damaged table is described, never quietly read without, and
    nothing but SourceError is raised. `bus-mlops sources verify` finds the good copy in order. Phantoms, if the
    source has any, are read back by its own reader as they were drawn.

    Args:
        source: The source, as its module defines it.
        folder: The good copy, with two images or more: as few files as show what is particular to the source.
        images_are_listed: Whether anything but the image itself (a table, a mask) says that an image should be
            there, so that a missing one can be noticed.

    Raises:
        ContractError: Something does not hold; the message says what, and for which file.
    """
    before = _digests(folder)
    _check_official(source)
    _check_records(source, folder)
    _check_nothing_there(source)
    _check_verify(source, folder)
    _check_strays(source, folder)
    _check_missing_images(source, folder, images_are_listed)
    if source.has_masks:
        _check_missing_masks(source, folder)
    _check_unreadable_images(source, folder)
    _check_tables(source, folder)
    if source.phantoms:
        _check_phantoms(source)
    require(_digests(folder) == before, f"reading {source.name} changed files below {folder}: sources are read only.")


def _check_official(source: Source) -> None:
    official = source.official
    if official is None:
        return
    name = source.name
    cases = official.images if official.cases is None else official.cases
    require(min(official.benign, official.malignant, cases) > 0, f"{name}: an official count is 0.")
    require(cases <= official.images, f"{name}: more official cases than images.")
    require(official.with_mask <= official.images, f"{name}: more official masks than images.")
    require(bool(official.with_mask) == source.has_masks, f"{name}: official.with_mask contradicts has_masks.")
    if official.names:
        unique = len(set(official.names))
        require(
            unique == len(official.names) == official.images,
            f"{name}: {len(official.names)} official names, {unique} of them different, of {official.images} images.",
        )


def _check_records(source: Source, folder: Path) -> None:
    survey, name = source.survey(folder), source.name
    records = list(survey.records)
    require(len(records) >= 2, f"{name}: {folder} must hold two images or more, but {len(records)} were read.")
    require(not survey.problems, f"{name}: {folder} must be a good copy, but has {survey.problems}.")
    require(source.read(folder) == records, f"{name}: read() and survey() differ, or two readings do.")
    _check_sound(source, records, survey.normal)
    for record in records:
        where = f"{record.image_id} ({record.origin})"
        require(bool(record.origin), f"{record.image_id}: origin must name the row or file that it comes from.")
        require(bool(record.case), f"{where}: the case is empty; an image without a known case is its own.")
        require(bool(record.masks) == source.has_masks, f"{where}: {len(record.masks)} masks contradict has_masks.")
        paths = (record.image, *record.masks)
        require(all(path.is_relative_to(folder) for path in paths), f"{where}: names a file outside {folder}.")
    with _copy(source, folder) as other:
        moved = [_content(record, other) for record in source.read(other)]
    require(moved == [_content(r, folder) for r in records], f"{name}: records depend on where or how files lie.")


def _check_sound(source: Source, records: Sequence[Record], normal: Sequence[Record]) -> None:
    """What holds of the records of any copy, be it damaged."""
    seen = set[str]()
    for record in (*records, *normal):
        where, name = f"{record.image_id} ({record.origin})", record.name
        require(record.source == source.name, f"{where}: source must be {source.name!r}.")
        require(name not in seen, f"{where}: the name is used twice.")
        seen.add(name)
        plain = name == name.strip() and name.isprintable() and not {"/", "\\", ","} & set(name)
        require(bool(name) and plain, f"{where}: a name must be printable text without slashes and commas.")
        for path in (record.image, *record.masks):
            require(path.is_file(), f"{where}: {path} is not there.")
    for record in records:
        label = record.label
        require(label in (0, 1), f"{record.image_id}: label {label!r} is neither 0 (benign) nor 1 (malignant).")
    for record in normal:
        require(record.label == NORMAL, f"{record.image_id}: label {record.label!r} of a normal image is not 2.")


def _check_nothing_there(source: Source) -> None:
    with TemporaryDirectory() as scratch:
        empty, missing = Path(scratch) / "empty", Path(scratch) / "missing"
        empty.mkdir()
        for folder in (empty, missing):
            records, words = _outcome(source, folder)
            require(not records, f"{source.name}: records of {folder}, which holds nothing.")
            require(str(folder) in words, f"{source.name}: the error for no folder must name it, but is {words!r}")


def _check_verify(source: Source, folder: Path) -> None:
    with _copy(source, folder) as copy:
        before = _digests(copy)
        report = _verified(source, copy)
        (found,) = report.sources
        require(not found.errors, f"{source.name}: verify finds errors in a good copy: {found.errors}")
        require(not found.crops_outside, f"{source.name}: crops outside their images: {found.crops_outside}")
        survey = source.survey(copy)
        counts = Counts.of(survey.records, survey.normal)
        require(found.found == counts, f"{source.name}: verify counts {found.found}, read() gives {counts}.")
        json.dumps(report.to_dict())
        require(_digests(copy) == before, f"{source.name}: reading changes files.")


def _check_strays(source: Source, folder: Path) -> None:
    with _copy(source, folder) as copy:
        records = source.read(copy)
        for place in {copy, *(path.parent for record in records for path in (record.image, *record.masks))}:
            for stray in (".DS_Store", "Thumbs.db", "._image.png", "readme.txt"):
                (place / stray).write_bytes(b"\0\1")
        try:
            again = source.read(copy)
        except SourceError as error:
            raise ContractError(f"{source.name}: hidden files and notes must disturb nothing, but: {error}") from error
        require(again == records, f"{source.name}: hidden files and notes change the records.")


def _check_missing_images(source: Source, folder: Path, images_are_listed: bool) -> None:
    for number in (0, -1):
        with _copy(source, folder) as copy:
            records = source.read(copy)
            lost = records[number]
            lost.image.unlink()
            rest, words = _outcome(source, copy)
            if images_are_listed:
                _require_refusal(source, copy, [lost.image], words)
            else:
                others = [record for record in records if record is not lost]
                require(bool(words) or list(rest) == others, f"{source.name}: without {lost.image}, others change.")


def _check_missing_masks(source: Source, folder: Path) -> None:
    for number in (0, -1):
        with _copy(source, folder) as copy:
            lost = source.read(copy)[number]
            for path in lost.masks:
                path.unlink()
            _, words = _outcome(source, copy)
            _require_refusal(source, copy, [lost.image, *lost.masks], words)


def _require_refusal(source: Source, folder: Path, lost: Sequence[Path], words: str) -> None:
    name = lost[0].stem
    named = any(path.stem in words for path in lost)
    require(named, f"{source.name}: a copy without {name} or its mask must name it: {words!r}")
    try:
        source.read(folder)
    except SourceError:
        return
    raise ContractError(f"{source.name}: a copy without {name} or its mask must not be read.")


def _check_unreadable_images(source: Source, folder: Path) -> None:
    with _copy(source, folder) as copy:
        path = source.read(copy)[-1].image
        path.write_bytes(path.read_bytes()[:40])
        (found,) = _verified(source, copy).sources
        expected = [path.relative_to(copy).as_posix()]
        require(found.unreadable_files == expected, f"{source.name}: unreadable {expected}, not {found.errors}")


def _check_tables(source: Source, folder: Path) -> None:
    """Every file that is no image: gone, empty, cut, with a line doubled, with other bytes at random places."""
    pictures = {path for record in source.read(folder) for path in (record.image, *record.masks)}
    tables = [
        path.relative_to(folder)
        for path in _files(folder)
        if path.suffix.lower() not in IMAGE_SUFFIXES and path not in pictures
    ]
    for table in tables:
        data = (folder / table).read_bytes()
        for damaged in (None, b""):
            words = _check_damaged_table(source, folder, table, damaged)
            require(table.name in words, f"{source.name}: the error must name the damaged {table.name}: {words!r}")
        rng = np.random.default_rng(0)
        lines = data.splitlines(keepends=True)
        for damaged in (data[: len(data) // 2], b"".join([*lines, lines[-1]]), *(_altered(rng, data, _FUZZED))):
            _check_damaged_table(source, folder, table, damaged)


def _check_damaged_table(source: Source, folder: Path, table: Path, data: bytes | None) -> str:
    with _copy(source, folder) as copy:
        names = {record.name for record in source.read(copy)}
        if data is None:
            (copy / table).unlink()
        else:
            (copy / table).write_bytes(data)
        records, words = _outcome(source, copy)
        lost = names - {record.name for record in records}
        require(bool(words) or not lost, f"{source.name}: with {table} damaged, {sorted(lost)} are lost in silence.")
        return words


def _altered(rng: np.random.Generator, data: bytes, count: int) -> Iterator[bytes]:
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 7)):
            changed[rng.integers(len(changed))] = int(rng.integers(256))
        yield bytes(changed)


def _check_phantoms(source: Source) -> None:
    for count, copies in _PHANTOMS:
        with TemporaryDirectory() as scratch:
            once, phantoms, names = _drawn(source, Path(scratch) / "once", count, copies)
            twice, *_ = _drawn(source, Path(scratch) / "twice", count, copies)
            require(_digests(once) == _digests(twice), f"{source.name}: phantoms differ from one drawing to the next.")
            _check_read_back(source, once, dict(zip(names, phantoms, strict=True)))


def _drawn(source: Source, folder: Path, count: int, copies: int) -> tuple[Path, list[Phantom], list[str]]:
    if source.phantoms is None:
        raise ContractError(f"{source.name} has no phantoms.")
    plan = source.phantoms()
    require(0 < plan.malignant < 1, f"{source.name}: the share of malignant phantoms must lie between 0 and 1.")
    rng = np.random.default_rng(count)
    phantoms = draw_phantoms(rng, plan, count, copies if plan.near_copies else 0, size=48)
    return folder, phantoms, plan.write(folder, phantoms, rng)


def _check_read_back(source: Source, folder: Path, phantoms: dict[str, Phantom]) -> None:
    survey = source.survey(folder)
    require(not survey.problems, f"{source.name}: phantoms that its own reader refuses: {survey.problems}")
    (found,) = _verified(source, folder).sources
    require(not found.errors, f"{source.name}: phantoms that verify refuses: {found.errors}")
    labels = {record.name: record.label for record in survey.records}
    expected = {name: phantom.label for name, phantom in phantoms.items()}
    require(labels == expected, f"{source.name}: phantoms are read back as {labels} but were drawn as {expected}.")
    cases = _groups((record.case, record.name) for record in survey.records)
    require(
        cases == _groups((phantom.case, name) for name, phantom in phantoms.items()),
        f"{source.name}: cases of phantoms are read back as {cases}.",
    )
    for record in survey.records:
        if record.masks:
            mask = np.any([decode_mask(path) for path in record.masks], axis=0)
            require(np.array_equal(mask, phantoms[record.name].mask > 0), f"{record.image_id}: another mask.")
        if record.crop:
            height, width = phantoms[record.name].image.shape
            size = (record.crop.height, record.crop.width)
            require(size == (height, width), f"{record.image_id}: cropped to {size} but drawn {height} x {width}.")


def _groups(pairs: Iterable[tuple[Hashable, str]]) -> set[frozenset[str]]:
    groups: dict[Hashable, set[str]] = defaultdict(set)
    for case, name in pairs:
        groups[case].add(name)
    return {frozenset(names) for names in groups.values()}


def _outcome(source: Source, folder: Path) -> tuple[tuple[Record, ...], str]:
    """The records, and all that the survey complains of; any exception but SourceError breaks the contract."""
    survey = _only_source_errors(source, folder)
    if isinstance(survey, str):
        return (), survey
    _check_sound(source, survey.records, survey.normal)
    words = [problem.message for problem in survey.problems]
    return survey.records, "\n".join([*words, *(item for problem in survey.problems for item in problem.items)])


def _only_source_errors(source: Source, folder: Path) -> Survey | str:
    try:
        return source.survey(folder)
    except SourceError as error:
        return str(error)
    except Exception as error:
        raise ContractError(
            f"{source.name}: a damaged copy raises {type(error).__name__} ({error}); only SourceError may be raised."
        ) from error


def _verified(source: Source, folder: Path) -> Report:
    """The report on a folder of any name, as if it were the source's below its root."""
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / source.name
        shutil.copytree(folder, target)
        return verify(Path(scratch), sources={source.name: source})


@contextmanager
def _copy(source: Source, folder: Path) -> Iterator[Path]:
    """A copy whose files were made in another order, which is theirs in some file systems' listings."""
    with TemporaryDirectory() as scratch:
        root = Path(scratch) / source.name
        for path in sorted((path for path in folder.rglob("*")), reverse=True):
            target = root / path.relative_to(folder)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        yield root


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in _files(folder)
    }


def _content(record: Record, folder: Path) -> tuple[object, ...]:
    """All of a record but its place."""
    files = [path.relative_to(folder).as_posix() for path in (record.image, *record.masks)]
    return record.name, record.case, record.label, record.crop, *files
