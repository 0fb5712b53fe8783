"""The readers by name, and the reading of those that a configuration asks for.

A new source is a module with `read(folder) -> list[Record]` and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bus_mlops.config import DataConfig
from bus_mlops.errors import ConfigError, SourceError
from bus_mlops.sources import busi, busis, dataset_b, hmss, thammasat
from bus_mlops.sources.base import Record

# Marks a folder as synthetic; whatever is made from it must say so.
NOTICE_FILE = "PHANTOM.txt"

Reader = Callable[[Path], list[Record]]

READERS: dict[str, Reader] = {
    "hmss": hmss.read,
    "busi": busi.read,
    "busis": busis.read,
    "thammasat": thammasat.read,
    "dataset_b": dataset_b.read,
}


def sources_present(root: Path) -> tuple[str, ...]:
    """The sources that have a folder below root, in the order of READERS."""
    return tuple(name for name in READERS if (root / name).is_dir())


def read_sources(data: DataConfig) -> list[Record]:
    """The records of the configured sources, sorted by image id.

    `sources: all` reads those whose folder is there, a list must be there completely. Raises SourceError
    naming the folder and what to do, ConfigError when `kind` is not what the folder holds.
    """
    _require_honest(data)
    present = sources_present(data.root)
    wanted = present if data.sources == "all" else data.sources
    if not wanted:
        raise SourceError(
            f"{data.root} holds none of the sources' folders ({', '.join(READERS)}). Put each source, "
            f"untouched, into {data.root}/<source>/, or set data.root in params.yaml."
        )
    for name in wanted:
        if name not in present:
            raise SourceError(
                f"{data.root / name} not found, but params.yaml lists {name!r} in data.sources. Put the "
                "source there, untouched, or take it off the list."
            )
    records = [record for name in dict.fromkeys(wanted) for record in READERS[name](data.root / name)]
    return sorted(records, key=lambda record: (record.source, record.name))


def _require_honest(data: DataConfig) -> None:
    synthetic = (data.root / NOTICE_FILE).is_file()
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
