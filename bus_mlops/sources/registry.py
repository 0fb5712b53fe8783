"""The sources by name, and the reading of those that a configuration asks for.

A new source is a module that defines `SOURCE`, and its line in `_MODULES`: docs/how-to/add-a-source.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.errors import ConfigError, SourceError
from bus_mlops.sources.links import link_problem
from bus_mlops.sources.record import Record
from bus_mlops.sources.source import Reading, Source

if TYPE_CHECKING:
    from bus_mlops.config import DataConfig

# Marks a folder as synthetic; whatever is made from it must say so.
NOTICE_FILE = "PHANTOM.txt"
UNSTATED_TERMS = "not stated here: its owners say on which terms it may be used"

_MODULES = (
    "hmss",
    "busi",
    "busis",
    "thammasat",
    "dataset_b",
    "busbra",
    "breast",
    "bus_uclm",
    "gdph_sysucc",
    "buid",
)


def _load(module: str) -> Source:
    source: Source = importlib.import_module(f"bus_mlops.sources.{module}").SOURCE
    return source


def by_name(sources: Iterable[Source]) -> dict[str, Source]:
    """Sources under their names.

    Raises:
        SourceError: Two have the same, as after copying a module.
    """
    found: dict[str, Source] = {}
    for source in sources:
        if found.setdefault(source.name, source) is not source:
            raise SourceError(f"two modules of bus_mlops/sources call their source {source.name!r}. Rename one.")
    return found


SOURCES = by_name(map(_load, _MODULES))


def title_and_terms(name: str) -> tuple[str, str]:
    """What a source is called, and its licence, or why there is none; also of one that is registered no more."""
    if name not in SOURCES:
        return name, UNSTATED_TERMS
    source = SOURCES[name]
    return source.title, source.release.licence if source.release else source.not_offered or UNSTATED_TERMS


def is_synthetic(root: Path) -> bool:
    """Whether a folder of sources says that its images are phantoms."""
    return (root / NOTICE_FILE).is_file()


def sources_present(root: Path) -> tuple[str, ...]:
    """The sources that have a folder below root, in the order of SOURCES."""
    return tuple(name for name in SOURCES if (root / name).is_dir())


def require_no_links(root: Path, names: Iterable[str]) -> None:
    """Raise SourceError where the folders of some sources are or hold links that DVC does not follow; names each."""
    problems = [problem for name in names if (problem := link_problem(root / name))]
    if problems:
        raise SourceError("\n  ".join(problems))


def no_sources(root: Path) -> SourceError:
    """The error for a root without any source's folder."""
    return SourceError(
        f"{root} holds none of the sources' folders ({', '.join(SOURCES)}). Put each source, "
        f"untouched, into {root}/<source>/, or set data.root in params.yaml."
    )


def read_sources(data: DataConfig) -> list[Record]:
    """The records of `read_each`, sorted by image id."""
    records = [record for reading in read_each(data).values() for record in reading.records]
    return sorted(records, key=lambda record: (record.source, record.name))


def read_each(data: DataConfig) -> dict[str, Reading]:
    """What is there of each of the configured sources, and what was left out.

    `sources: all` reads those whose folder is there, a list must be there completely. Images and masks that are not
    there are an error, or with `sources_incomplete: report` left out and counted.

    Raises:
        SourceError: One is not there or not in order; names the folder and what to do.
        ConfigError: `kind` is not what the folder holds.
    """
    _require_honest(data)
    present = sources_present(data.root)
    wanted = present if data.sources == "all" else data.sources
    # a link to nothing is no folder, and would be passed over
    require_no_links(data.root, SOURCES if data.sources == "all" else wanted)
    if not wanted:
        raise no_sources(data.root)
    for name in wanted:
        if name not in present:
            raise SourceError(
                f"{data.root / name} not found, but params.yaml lists {name!r} in data.sources. Put the "
                "source there, untouched, or take it off the list."
            )
    if data.sources_incomplete == "report":
        return {name: SOURCES[name].read_what_is_there(data.root / name) for name in wanted}
    return {name: SOURCES[name].read_all(data.root / name) for name in wanted}


def _require_honest(data: DataConfig) -> None:
    synthetic = is_synthetic(data.root)
    if synthetic and data.kind == "real":
        raise ConfigError(
            f"data.kind is 'real', but {data.root} holds synthetic images ({NOTICE_FILE} says so). Set data.kind "
            "to phantom, or data.root to the folder of your own images."
        )
    if not synthetic and data.kind == "phantom":
        raise ConfigError(
            f"data.kind is 'phantom', but {data.root} has no {NOTICE_FILE}. Set data.kind to real if these are "
            "your own images; otherwise draw phantoms with `dvc repro phantom`."
        )
