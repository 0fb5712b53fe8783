"""Whatever sources are there, looked at file by file and compared with the official counts.

The counts are those of the official lists. Table 2 of the paper has the same, but swaps its totals: 1,818 images
are benign and 1,823 malignant.

An *error* is what would stop the assembly. Fewer images than the official list, label conflicts and duplicates
are *notes*: a smaller set is a set.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bus_mlops.errors import SourceError
from bus_mlops.limits import core_count
from bus_mlops.sources.inspection import Inspected, inspect_record
from bus_mlops.sources.links import link_problem
from bus_mlops.sources.record import MALIGNANT, LabelConflict, Record, label_conflicts
from bus_mlops.sources.registry import SOURCES, is_synthetic, no_sources
from bus_mlops.sources.source import Kind, Official, Source, Survey

Progress = Callable[[Iterable[Inspected], int], Iterable[Inspected]]


@dataclass(frozen=True)
class Counts:
    """Numbers of images, cases, and images with a mask."""

    images: int
    benign: int
    malignant: int
    cases: int
    with_mask: int
    normal: int = 0

    @classmethod
    def of(cls, records: Sequence[Record], normal: Sequence[Record] = ()) -> Counts:
        """The counts of what is there, of which images without a lesion count as `normal` alone."""
        malignant = sum(record.label == MALIGNANT for record in records)
        cases = len({record.case_id for record in records})
        masks = sum(bool(record.masks) for record in records)
        return cls(len(records), len(records) - malignant, malignant, cases, masks, len(normal))

    @classmethod
    def expected(cls, official: Official, found: Counts) -> Counts:
        """The counts of the official list, where it says them; else those that were found."""
        cases = found.cases if official.cases is None else official.cases
        normal = found.normal if official.normal is None else official.normal
        return cls(official.images, official.benign, official.malignant, cases, official.with_mask, normal)

    @property
    def words(self) -> str:
        """All but the number of images, for people."""
        kinds = f"{self.benign} benign, {self.malignant} malignant and {self.normal} normal"
        return f"{kinds} in {self.cases} cases, {self.with_mask} with mask"

    @classmethod
    def total(cls, each: Iterable[Counts]) -> Counts:
        """The sum over several sources."""
        rows = [astuple(counts) for counts in each]
        return cls(*(sum(column) for column in zip(*rows, strict=True))) if rows else cls(0, 0, 0, 0, 0)


@dataclass
class SourceReport:
    """What is there of one source; lists hold image ids' names or paths relative to the source's folder."""

    source: str
    title: str
    found: Counts
    expected: Counts | None = None
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad_rows: list[str] = field(default_factory=list)
    missing_files: list[str] = field(default_factory=list)
    not_there: list[str] = field(default_factory=list)
    unreadable_files: list[str] = field(default_factory=list)
    images_without_mask: list[str] = field(default_factory=list)
    masks_without_image: list[str] = field(default_factory=list)
    misplaced_files: list[str] = field(default_factory=list)
    unlisted_images: list[str] = field(default_factory=list)
    size_mismatches: list[str] = field(default_factory=list)
    crops_outside: list[str] = field(default_factory=list)
    empty_masks: list[str] = field(default_factory=list)
    rows_without_crop: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    label_conflicts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """`error`, or how the counts compare: `complete`, `smaller`, `differs`, `not compared`."""
        if self.errors:
            return "error"
        if self.expected is None:
            return "not compared"
        if self.found == self.expected and not self.not_there:
            return "complete"
        fewer = self.found.images < self.expected.images or self.found.normal < self.expected.normal
        return "smaller" if fewer else "differs"


@dataclass(frozen=True)
class Duplicates:
    """Images whose cropped pixels are the same; `conflicting`: under both labels."""

    image_ids: tuple[str, ...]
    conflicting: bool


@dataclass(frozen=True)
class Report:
    """The reports of all sources that are there, and what concerns more than one."""

    root: Path
    synthetic: bool
    sources: tuple[SourceReport, ...]
    absent: tuple[str, ...]
    duplicates: tuple[Duplicates, ...]
    notes: tuple[str, ...]

    @property
    def errors(self) -> int:
        """How many errors there are in all; 0 means that the sources can be assembled."""
        return sum(len(each.errors) for each in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """For machines: what `bus-mlops sources verify --json` prints."""
        sources = {each.source: {"status": each.status, **asdict(each)} for each in self.sources}
        for each in sources.values():
            del each["source"]
        return {
            "root": str(self.root),
            "kind": "phantom" if self.synthetic else "real",
            "errors": self.errors,
            "sources": sources,
            "absent": list(self.absent),
            "duplicates": [asdict(group) for group in self.duplicates],
            "notes": list(self.notes),
        }


def verify(
    root: Path,
    progress: Progress = lambda items, _: items,
    sources: Mapping[str, Source] = SOURCES,
) -> Report:
    """Survey each of the sources that is below root and decode each of its images and masks once.

    Phantoms (`PHANTOM.txt`) are compared with no official counts.

    Raises:
        SourceError: Root holds no source's folder at all.
    """
    present = tuple(name for name in sources if (root / name).is_dir() or (root / name).is_symlink())
    if not present:
        hint = "".join(f" {note}" for note in _strangers(root))
        raise SourceError(f"{no_sources(root)}{hint}")
    synthetic = is_synthetic(root)
    surveys = {name: _survey(sources[name], root / name) for name in present}
    records = [record for survey, _ in surveys.values() for record in (*survey.records, *survey.normal)]
    with ThreadPoolExecutor(core_count() + 4) as pool:  # decoders release the lock
        inspected = list(progress(pool.map(partial(inspect_record, root=root), records), len(records)))
    by_source = defaultdict(list)
    for record, each in zip(records, inspected, strict=True):
        by_source[record.source].append(each)
    return Report(
        root=root,
        synthetic=synthetic,
        sources=tuple(
            _report(sources[name], survey, failure, by_source[name], synthetic)
            for name, (survey, failure) in surveys.items()
        ),
        absent=tuple(name for name in sources if name not in present),
        duplicates=_duplicates(records, inspected),
        notes=_strangers(root),
    )


def _survey(source: Source, folder: Path) -> tuple[Survey, str]:
    if problem := link_problem(folder):
        return Survey(()), problem
    try:
        return source.survey(folder), ""
    except SourceError as error:
        return Survey(()), str(error)


def _report(
    source: Source, survey: Survey, failure: str, inspected: Sequence[Inspected], synthetic: bool
) -> SourceReport:
    official = None if synthetic else source.official
    report = SourceReport(source.name, source.title, Counts.of(survey.records, survey.normal))
    report.errors += [failure] if failure else []
    for problem in survey.problems:
        (report.errors if problem.stops else report.notes).append(problem.message)
    report.bad_rows += survey.items("bad_rows")
    report.missing_files += [*survey.items("missing_images"), *survey.items("missing_masks")]
    if source.has_masks:  # whatever the reason
        report.images_without_mask += [record.name for record in survey.records if not record.masks]
    kinds: tuple[Kind, ...] = ("masks_without_image", "misplaced_files", "unlisted_images", "rows_without_crop")
    for kind in kinds:
        getattr(report, kind).extend(survey.items(kind))
    report.size_mismatches += survey.items("unfit_masks")
    report.left_out |= survey.left_out
    _add_pixels(report, inspected[: len(survey.records)])
    _add_normal(report, inspected[len(survey.records) :])
    _add_conflicts(report, label_conflicts(survey.records))
    if official:
        report.expected = Counts.expected(official, report.found)
        _compare(report, official, survey)
    return report


def _add_pixels(report: SourceReport, inspected: Sequence[Inspected]) -> None:
    for each in inspected:
        report.errors += each.messages
        report.unreadable_files += each.unreadable
        report.size_mismatches += each.size_mismatches
        report.crops_outside += [each.name] if each.crop_outside else []
        report.empty_masks += [each.name] if each.empty_mask else []
    if report.empty_masks:
        report.notes.append(f"{len(report.empty_masks)} masks are empty: {_list(report.empty_masks)}.")


def _add_normal(report: SourceReport, inspected: Sequence[Inspected]) -> None:
    """What is wrong with images that are in no benchmark stops nothing."""
    for each in inspected:
        report.notes += [f"normal image: {message}" for message in each.messages]
        report.unreadable_files += each.unreadable
    marked = [each.name for each in inspected if each.marked]
    if marked:
        report.notes.append(
            f"{len(marked)} images are called normal, and a mask marks a lesion in them: {_list(marked)}."
        )


def _add_conflicts(report: SourceReport, conflicts: Sequence[LabelConflict]) -> None:
    for conflict in conflicts:
        report.label_conflicts.append(conflict._asdict())
        report.notes.append(
            f"case {conflict.case_id} holds benign ({_list(conflict.benign)}) and malignant images "
            f"({_list(conflict.malignant)}); they are kept as the source says."
        )


def _compare(report: SourceReport, official: Official, survey: Survey) -> None:
    there = {record.name for record in survey.records}
    report.not_there += [name for name in official.names if name not in there]
    surplus = sorted(there - set(official.names)) if official.names else []
    if official.normal is not None and official.normal != report.found.normal:
        report.notes.append(f"{report.found.normal} normal images, where the official list has {official.normal}.")
    fewer = official.images - report.found.images
    if fewer > 0:
        named = f" Not there: {_list(report.not_there)}." if report.not_there else ""
        report.notes.append(f"{fewer} images fewer than the official list's {official.images:,}.{named}")
    elif fewer < 0:
        named = f" Not in the official list: {_list(surplus)}." if surplus else ""
        report.notes.append(f"{-fewer} images more than the official list's {official.images:,}.{named}")
    elif report.expected and report.found != report.expected:
        report.notes.append(
            f"as many images as in the official list, but {report.found.words} instead of {report.expected.words}."
        )
    elif report.not_there:
        report.notes.append(
            f"as many images as in the official list, but other names: {_list(surplus)} instead of "
            f"{_list(report.not_there)}."
        )


def _duplicates(records: Sequence[Record], inspected: Sequence[Inspected]) -> tuple[Duplicates, ...]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record, each in zip(records, inspected, strict=True):
        if each.pixels:
            groups[each.pixels].append(record)
    return tuple(
        Duplicates(tuple(record.image_id for record in group), len({record.label for record in group}) > 1)
        for group in groups.values()
        if len(group) > 1
    )


def _strangers(root: Path) -> tuple[str, ...]:
    """A note for each folder below root that is no source's but may be meant as one."""
    notes = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        name = folder.name.casefold().replace(" ", "_").replace("-", "_")
        near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.8)
        if folder.is_dir() and folder.name not in SOURCES and near and not folder.name.startswith("."):
            notes.append(f"{folder} is no source's folder: if it holds {SOURCES[near[0]].title}, name it {near[0]!r}.")
    return tuple(notes)


def _list(items: Sequence[str], most: int = 10) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
