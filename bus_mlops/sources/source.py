"""`Source`, `Survey`, `Problem`: what a source is, and everything that its folder holds, good and bad.

A reader looks at the whole folder before it complains, so that `bus-mlops sources verify` can list all that is
wrong while `Source.read` stops with one error that says the same.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bus_mlops.errors import ConfigError, SourceError
from bus_mlops.files import is_litter
from bus_mlops.sources.record import IMAGE_ABSENT, MASK_ABSENT, MASK_UNFIT, Record

if TYPE_CHECKING:
    from bus_mlops.sources.phantoms.plan import PhantomPlan
    from bus_mlops.sources.published import PublishedFolds

OF_OTHER_SYSTEMS = "files of other systems"
WITHOUT_LESION = "normal images (no lesion)"

Kind = Literal[
    "bad_rows", "missing_images", "missing_masks", "images_without_mask", "masks_without_image", "unlisted_images",
    "misplaced_files", "rows_without_crop", "unfit_masks",
]  # fmt: skip


# What `data.sources_incomplete: report` forgives, and what the flow calls it. All other problems are mistakes.
_ABSENT: dict[Kind, str] = {
    "missing_images": IMAGE_ABSENT,
    "masks_without_image": IMAGE_ABSENT,
    "missing_masks": MASK_ABSENT,
    "images_without_mask": MASK_ABSENT,
    "unfit_masks": MASK_UNFIT,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem and all that have it.

    Attributes:
        items: Paths relative to the source's folder, or the places of bad rows.
        stops: The source cannot be read until it is mended.
    """

    kind: Kind
    items: tuple[str, ...]
    message: str
    stops: bool = True


@dataclass(frozen=True, slots=True)
class Survey:
    """The records of a folder whose image is there, and the problems found on the way.

    Attributes:
        normal: The records of images without a lesion: described, counted, and in no benchmark of two classes.
        left_out: What the folder holds beside them and is left out as a rule: how many of what.
    """

    records: tuple[Record, ...]
    problems: tuple[Problem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    normal: tuple[Record, ...] = ()

    def items(self, kind: Kind) -> tuple[str, ...]:
        """All that have a problem of one kind."""
        return tuple(item for problem in self.problems if problem.kind == kind for item in problem.items)

    def require_sound(self) -> list[Record]:
        """The records.

        Raises:
            SourceError: Holds the message of every problem that stops.
        """
        stopping = [problem for problem in self.problems if problem.stops]
        messages = [problem.message for problem in stopping]
        if stopping and all(problem.kind in _ABSENT for problem in stopping):
            messages.append(
                "To go on without what is not there, counted in the flow and marked in every table, set "
                "data.sources_incomplete to report in params.yaml."
            )
        if messages:
            raise SourceError("\n  ".join(messages))
        return list(self.records)


@dataclass(frozen=True)
class Reading:
    """The records of a source, and how many of its entries were left out, by reason.

    Attributes:
        beside: `left_out` of the survey: what is no entry of the source's.
        notes: The messages of problems that stop nothing.
    """

    records: tuple[Record, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    beside: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Official:
    """What the official list of a source contains.

    Attributes:
        cases: Of benign and malignant images; None where nobody says.
        names: Of benign and malignant images, where a rule gives them.
        normal: Images without a lesion; None where it does not matter how many there are.
    """

    benign: int
    malignant: int
    cases: int | None
    with_mask: int = 0
    names: tuple[str, ...] = ()
    normal: int | None = None

    @property
    def images(self) -> int:
        """Benign and malignant."""
        return self.benign + self.malignant


@dataclass(frozen=True)
class Download:
    """A source whose own table says where each image is: the table's file, its columns, the images' folder."""

    table: str
    url: str = "img url"
    name: str = "img name"
    folder: str = "imgs"


@dataclass(frozen=True)
class Archive:
    """A file that a source's owner offers, a zip or a table beside it.

    Attributes:
        checksum: `sha256:...` or `md5:...`; None where nobody publishes one, so that none can be required.
    """

    name: str
    url: str
    checksum: str | None


@dataclass(frozen=True)
class Release:
    """What a source's owner offers to everyone, and on which terms.

    Attributes:
        licence: Its name and what it asks for; shown before anything is downloaded.
        page: Where the owner says all of it.
        cite: The publication to name.
    """

    licence: str
    page: str
    cite: str
    files: tuple[Archive, ...]


# Of the five sources of the paper: what its benchmark's site asks of who uses them.
ASK_THE_OWNER = (
    "its owner decides on which terms it may be used, and the benchmark forbids passing it on and commercial use "
    "(http://busbench.midalab.net/datasets)"
)


@dataclass(frozen=True)
class Source:
    """One source, and how its folder is surveyed.

    Attributes:
        name: In folders and params.yaml.
        title: In tables.
        look: Makes the survey of a folder; it raises SourceError only when there is nothing to survey: no table, no
            folder, no image.
        has_masks: Whether its images come with the lesion's outline.
        official: None where nobody publishes counts.
        download: None where no table says where the images are.
        release: None where the owner does not offer it to everyone under a licence.
        not_offered: Why not, for who asks for it.
        folds: None where the owner publishes no folds.
        phantoms: Returns the plan of the source's phantoms, or is None where none are drawn: `plan_in("my_hospital")`,
            which imports what draws them only when it is called, so that the list of sources stays quick to load.
    """

    name: str
    title: str
    look: Callable[[Path], Survey]
    has_masks: bool
    official: Official | None = None
    download: Download | None = None
    release: Release | None = None
    folds: PublishedFolds | None = None
    not_offered: str = ""
    phantoms: Callable[[], PhantomPlan] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z_]+", self.name):
            raise SourceError(f"the source name {self.name!r} must be lower-case letters and _, as in 'my_hospital'.")

    def cannot_be_downloaded(self) -> ConfigError:
        """The error that says why not, and what to do."""
        why = self.not_offered or "no table of its owner says where its images are"
        return ConfigError(
            f"{self.name} cannot be downloaded: {why}. Get it from the owner, and put it into a folder {self.name}/ "
            "beside the other sources."
        )

    def survey(self, folder: Path) -> Survey:
        """All that the folder holds.

        Raises:
            SourceError: There is nothing to survey.
        """
        survey = self.look(folder)
        known: dict[str, Record] = {}
        for record in (*survey.records, *survey.normal):
            if record.source != self.name:
                raise SourceError(
                    f"the module of {self.name!r} yields records of {record.source!r} ({record.origin}): its records "
                    f"must say source={self.name!r}."
                )
            if known.setdefault(record.name, record) is not record:
                raise SourceError(
                    f"{record.origin}: image name {record.name!r} was already used by {known[record.name].origin}. "
                    "Names must be unique within a source: take out one of the two, or name the images otherwise."
                )
        beside = {WITHOUT_LESION: len(survey.normal), **survey.left_out, OF_OTHER_SYSTEMS: _litter(folder)}
        return replace(survey, left_out={what: count for what, count in beside.items() if count})

    def read(self, folder: Path) -> list[Record]:
        """The records of the folder.

        Raises:
            SourceError: Names every file and row that is not in order.
        """
        return self.survey(folder).require_sound()

    def read_all(self, folder: Path) -> Reading:
        """As `read`, with what the survey says beside the records."""
        survey = self.survey(folder)
        return Reading(tuple(survey.require_sound()), {}, survey.left_out, _notes(survey))

    def read_what_is_there(self, folder: Path) -> Reading:
        """The records whose image and mask are there, and how many entries are left out because one is not.

        Raises:
            SourceError: Names every file and row that is wrong, or nothing is there.
        """
        found = _what_is_there(self.survey(folder))
        if not found.records:
            raise SourceError(f"{folder} holds none of the images that it should. Put them there.")
        return found


def _what_is_there(survey: Survey) -> Reading:
    """The records without those whose mask is not there, and how many files are absent.

    Raises:
        SourceError: Holds the message of every problem of another kind that stops.
    """
    stopping = [problem for problem in survey.problems if problem.stops]
    Survey((), tuple(problem for problem in stopping if problem.kind not in _ABSENT)).require_sound()
    absent = {name for problem in stopping if (name := _ABSENT.get(problem.kind))}
    kept = [record for record in survey.records if record.masks or not absent & {MASK_ABSENT, MASK_UNFIT}]
    images, unfit = (
        sum(len(each.items) for each in stopping if _ABSENT[each.kind] == reason)
        for reason in (IMAGE_ABSENT, MASK_UNFIT)
    )
    counts = {IMAGE_ABSENT: images, MASK_ABSENT: len(survey.records) - len(kept) - unfit, MASK_UNFIT: unfit}
    left_out = {reason: count for reason, count in counts.items() if count}
    return Reading(tuple(kept), left_out, survey.left_out, _notes(survey))


def _notes(survey: Survey) -> tuple[str, ...]:
    return tuple(problem.message for problem in survey.problems if not problem.stops)


def _litter(folder: Path) -> int:
    """How many files and folders below a source's folder other systems have left there."""
    count = 0
    for _, folders, files in os.walk(folder):
        count += sum(map(is_litter, (*folders, *files)))
        folders[:] = [name for name in folders if not is_litter(name)]
    return count


def plan_in(module: str) -> Callable[[], PhantomPlan]:
    """What draws a source's phantoms: the `PLAN` of a module in `bus_mlops/sources/phantoms/`, imported when called."""

    def plan() -> PhantomPlan:
        found: PhantomPlan = importlib.import_module(f"bus_mlops.sources.phantoms.{module}").PLAN
        return found

    return plan


def some(items: Iterable[str], most: int = 20) -> str:
    """The first items of a list for a message, and how many more there are.

    >>> some("abc", most=2)
    'a; b; and 1 more'
    """
    every = list(items)
    return "; ".join(every[:most]) + (f"; and {len(every) - most} more" if len(every) > most else "")
