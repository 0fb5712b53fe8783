"""Pages of docs/: their blocks in order, and what docs/reference/files.md says of each file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from projects import ROOT

from bus_mlops.evaluation.metrics import METRICS

DOCS = ROOT / "docs"
# What stands for many names, and those names.
STANDS_FOR = {"<metric>": f"({'|'.join(METRICS)})", "<k>": r"\d+"}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str
    code: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page below docs/, in its order."""
    text = (DOCS / page).read_text("utf-8")
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


@dataclass(frozen=True)
class Described:
    """A section of files.md: patterns of paths in a project, and the columns or keys that such files have."""

    patterns: tuple[str, ...]
    names: tuple[str, ...]

    def differences(self, names: set[str]) -> list[str]:
        """Names in a file that are not described, and those that are described and not there."""
        expressions = {name: re.compile(_expression(name)) for name in self.names}
        unknown = {name for name in names if not any(each.fullmatch(name) for each in expressions.values())}
        absent = {name for name, each in expressions.items() if not any(map(each.fullmatch, names))}
        return sorted(unknown | absent)


def _expression(name: str) -> str:
    for mark, names in STANDS_FOR.items():
        name = name.replace(mark, names)
    return name


def described_files() -> list[Described]:
    """Every section of the page; what is there in some projects only says so, and may be absent."""
    sections = re.split(r"^### ", (DOCS / "reference" / "files.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    found = []
    for section in sections:
        heading, _, text = section.partition("\n")
        cells = re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE)
        names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
        found.append(Described(tuple(re.findall(r"`([^`]+)`", heading)), tuple(names)))
    return found


def description_of(path: str, files: list[Described]) -> Described | None:
    """That of a file, by its path in the project: the one with the longest pattern that matches."""
    fitting = [(len(pattern), each) for each in files for pattern in each.patterns if fnmatch(path, pattern)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def project_files(project: Path) -> list[str]:
    """What the stages leave: everything below data/ and results/ but for the sources."""
    paths = [path for folder in ("data", "results") for path in (project / folder).rglob("*") if path.is_file()]
    names = sorted(path.relative_to(project).as_posix() for path in paths)
    return [name for name in names if not re.match(r"data/(phantom/(?!near_)|folds-official/)|.*\.gitignore$", name)]


def names_in(file: Path) -> set[str]:
    """The columns of a table, or the keys of a JSON object or of the first object of a list."""
    import pandas as pd

    if file.suffix == ".csv":
        return set(pd.read_csv(file, nrows=0).columns)
    if file.suffix == ".parquet":
        return set(pd.read_parquet(file).columns)
    content = json.loads(file.read_text("utf-8"))
    return set(content if isinstance(content, dict) else content[0])
