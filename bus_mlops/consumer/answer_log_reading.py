"""A log of answers, read: its answers, and what is wrong with its lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bus_mlops.consumer.answer_log import BEGINNING, digest, rotated
from bus_mlops.errors import AnswerLogError
from bus_mlops.files import printable

_LONGEST_LINE = 2**16
_SHA256 = r"^[0-9a-f]{64}$"


class Line(BaseModel):
    """What a line says, as far as it is read again; keys of later versions are let pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    time: AwareDatetime
    model: str = Field(pattern=_SHA256)
    status: str = Field(max_length=20)
    probability: float | None = Field(ge=0, le=1)
    members: tuple[float, ...] | None = Field(max_length=1000)
    input: str | None = Field(pattern=_SHA256)
    before: str = Field(pattern=_SHA256)


@dataclass(frozen=True)
class Answers:
    """All of a log.

    Attributes:
        lines: In order, those that can be read.
        problems: What is wrong, each a sentence with file and line.
        end: sha256 of the last line: note it elsewhere, and a log that was cut off later does not contain it.
    """

    lines: list[Line]
    problems: list[str]
    end: str


def read(path: Path) -> Answers:
    """Read a log and the files that it was rotated into.

    Raises:
        AnswerLogError: There is none.
    """
    if not path.is_file():
        raise AnswerLogError(f"{printable(path)} is no log of answers. Name the FILE of `--log FILE`.")
    lines: list[Line] = []
    problems: list[str] = []
    before = ""
    for file in (*rotated(path.absolute()), path):
        for number, content in enumerate(_lines(file), 1):
            where = f"{printable(file.name)} line {number}"
            line = _parsed(content)
            if line is None:
                problems.append(f"{where} is no line of a log: cut off, or written by something else.")
            else:
                problems += _broken(where, line, before)
                lines.append(line)
            before = digest(content)
    return Answers(lines, problems, before or BEGINNING)


def _broken(where: str, line: Line, before: str) -> Iterator[str]:
    if line.before == before:
        return
    if not before:
        if line.before != BEGINNING:
            yield f"{where} is not the first that was written: what came before it is not here."
    else:
        yield f"{where} does not follow the line before it: one was changed, removed or put in."


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while line := handle.readline(_LONGEST_LINE):
            yield line


def _parsed(content: bytes) -> Line | None:
    if not content.endswith(b"\n"):
        return None
    try:
        return Line.model_validate(json.loads(content))
    except (ValueError, RecursionError, ValidationError):
        return None


def taken(lines: Iterable[Line], model: str, since: datetime | None, until: datetime | None) -> list[Line]:
    """The lines of one model in a window of time, the first of each image only, in the order of time."""
    floor, ceiling = since or datetime.min.replace(tzinfo=UTC), until or datetime.max.replace(tzinfo=UTC)
    found: dict[str | None, Line] = {}
    unread = []
    for line in sorted(lines, key=lambda line: line.time):
        if line.model == model and floor <= line.time < ceiling:
            if line.input is None:
                unread.append(line)
            else:
                found.setdefault(line.input, line)
    return sorted((*found.values(), *unread), key=lambda line: line.time)


def apart(lines: Iterable[Line], seconds: float) -> list[Line]:
    """Of lines in order those with an answer, and of these none within so many seconds after the one before it.

    Images of one patient come together and are alike: counted each, they would look like evidence.
    """
    return spaced((line for line in lines if line.probability is not None), seconds)


def spaced(lines: Iterable[Line], seconds: float) -> list[Line]:
    """Of lines in order none within so many seconds after the one before it, whatever they say."""
    found: list[Line] = []
    gap = timedelta(seconds=seconds)
    for line in lines:
        if not found or line.time - found[-1].time >= gap:
            found.append(line)
    return found


def scores(lines: Iterable[Line], networks: int) -> list[float]:
    """Of each answer the mean over as many of its networks, drawn, as stood behind an answer that was judged.

    The mean over all of them is nearer to the middle than any that was judged, which would look like drift.
    """
    rng = np.random.default_rng(0)
    found = []
    for line in lines:
        members = line.members or (line.probability or 0.0,)
        found.append(float(np.mean(rng.choice(members, min(networks, len(members)), replace=False))))
    return found
