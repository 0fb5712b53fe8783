"""Pages of docs/: their blocks in order, and what docs/reference/files.md says of each file."""

from __future__ import annotations

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
    optional: tuple[str, ...]

    def matches(self, path: str) -> bool:
        return any(fnmatch(path, pattern) for pattern in self.patterns)

    def differences(self, names: set[str]) -> list[str]:
        """Names in a file that are not described, and the other way round."""
        expressions = {name: re.compile(_expression(name)) for name in self.names}
        unknown = [f"{name} is not described" for name in sorted(names) if not _any(expressions.values(), name)]
        absent = [
            f"{name} is not there"
            for name, expression in expressions.items()
            if name not in self.optional and not any(expression.fullmatch(each) for each in names)
        ]
        return unknown + absent


def _expression(name: str) -> str:
    for mark, names in STANDS_FOR.items():
        name = name.replace(mark, names)
    return name


def _any(expressions: object, name: str) -> bool:
    return any(each.fullmatch(name) for each in expressions)  # type: ignore[attr-defined]  # of a dict's values


def described_files() -> list[Described]:
    """Every section; a file belongs to the one with the longest pattern that matches it."""
    sections = re.split(r"^### ", (DOCS / "reference" / "files.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    found = []
    for section in sections:
        heading, _, text = section.partition("\n")
        rows = re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE)
        names = [(name, meaning) for cell, meaning in rows for name in re.findall(r"`([^`]+)`", cell)]
        optional = tuple(name for name, meaning in names if meaning.endswith("where there was one"))
        found.append(Described(tuple(re.findall(r"`([^`]+)`", heading)), tuple(n for n, _ in names), optional))
    return found


def description_of(path: str, files: list[Described]) -> Described | None:
    """That of a file, by its path in the project."""
    fitting = [(max(map(len, each.patterns)), each) for each in files if each.matches(path)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def project_files(project: Path) -> list[str]:
    """What the stages leave beside images and pictures: everything below data/ and results/."""
    paths = [path for folder in ("data", "results") for path in (project / folder).rglob("*") if path.is_file()]
    names = sorted(path.relative_to(project).as_posix() for path in paths)
    return [name for name in names if not re.match(r"data/(phantom/(?!near_)|folds-official/)|.*\.gitignore$", name)]
