"""The log of answers: a line for each, added at the end and never changed, by which an answer can be accounted for.

A line is a JSON object: when (`time`, UTC), which model (`model`, the package's digest), which image (`input`, the
sha256 of its bytes), what was said (`status`, `probability`, `spread`, `members`, `oddness`, `triage`, `error_type`)
and how long it took (`seconds`). No pixel, no path, no name and no sentence: those may hold what a file is called.
`before` is the sha256 of the line before, also across rotated files, so that a line that was changed, removed or put
in shows.

Several threads and processes may write to one file: each line is one write, at the end, under the file's lock. It is
on the disk (`fdatasync`) before the answer leaves. An answer that cannot be written down is not given.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bus_mlops.errors import AnswerLogError

MAX_BYTES = 64 * 2**20
# Before the first line of all.
BEGINNING = "0" * 64
# Longer than any line that is written here.
_LONGEST = 4096
# What every line begins with.
_BEGINS = b'{"time": "'
_FIELDS = ("status", "probability", "spread", "members", "oddness", "triage", "error_type", "seconds")


class Answer(Protocol):
    """What is written down of an answer: a `Prediction`, which has more."""

    @property
    def input(self) -> str | None:
        """sha256 of the image."""


Row = TypeVar("Row", bound=Answer)


def digest(line: bytes) -> str:
    """What the next line says of this one; its line break does not count."""
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def rotated(path: Path) -> list[Path]:
    """The files that a log was rotated into, oldest first: `answers.jsonl.000001`, ..."""
    numbered = re.compile(re.escape(path.name) + r"\.(\d{6,})")
    found = [(int(match[1]), each) for each in path.parent.iterdir() if (match := numbered.fullmatch(each.name))]
    return [each for _, each in sorted(found)]


class AnswerLog:
    """One file that answers are added to, with the files that it was rotated into beside it.

    Nothing is ever removed: whoever keeps the log decides for how long.
    """

    def __init__(self, path: str | Path, max_bytes: int = MAX_BYTES) -> None:
        """Open or make the file, readable by its owner alone.

        Args:
            path: The file; its folder must be there.
            max_bytes: From this size on it is renamed, and a new one begins.

        Raises:
            AnswerLogError: It cannot be written to, is no regular file, holds something else than a log, or others may
                write to it.
        """
        self.path = Path(path).absolute()
        self.max_bytes = max_bytes
        self.lines = 0
        """How many this process has written."""
        self._lock = threading.Lock()
        with self._lock, self._explained(), self._open() as file:
            _require_log(file)

    def add(self, model: str, row: Answer) -> None:
        """Write one line.

        Args:
            model: Digest of the package that answered.
            row: Its answer.

        Raises:
            AnswerLogError: It is not written, and no part of it is.
        """
        values = {"time": _now(), "model": model, "input": row.input}
        values |= {name: getattr(row, name) for name in _FIELDS}
        with self._lock, self._explained(), self._open() as file:
            self._append(file, values)
            self.lines += 1

    def noting(self, model: str, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows, each once it is written down."""
        for row in rows:
            self.add(model, row)
            yield row

    def _append(self, file: int, values: dict[str, Any]) -> None:
        size = os.fstat(file).st_size
        last = _last_line(file, size) if size else self._end_of_former()
        chained = {**values, "before": digest(last) if last else BEGINNING}
        line = json.dumps(chained, allow_nan=False).encode() + b"\n"
        # What a process that died has left stays as a line of its own, for the reader to report.
        line = b"\n" * (not last.endswith(b"\n") and size > 0) + line
        try:
            written = os.write(file, line)
            if written < len(line):
                raise OSError(f"only {written} of {len(line)} bytes could be written")
            os.fsync(file) if not hasattr(os, "fdatasync") else os.fdatasync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)  # the lock is held: what lies behind is ours
            raise

    def _end_of_former(self) -> bytes:
        former = rotated(self.path)
        if not former:
            return b""
        file = os.open(former[-1], os.O_RDONLY)
        try:
            return _last_line(file, os.fstat(file).st_size)
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        """The file, locked against other processes, with room for a line."""
        import fcntl  # Windows has none: see `_explained`

        while True:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            try:
                found = os.fstat(file)
                _require_private(found)
                fcntl.flock(file, fcntl.LOCK_EX)  # closing the file ends it
                if not self._is_current(file):
                    continue  # renamed while this process waited
                if os.fstat(file).st_size >= self.max_bytes:
                    number = int(former[-1].name.rpartition(".")[2]) if (former := rotated(self.path)) else 0
                    self.path.rename(f"{self.path}.{number + 1:06d}")
                    continue
                yield file
                return
            finally:
                os.close(file)

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(file))  # noqa: PTH116 - as the other
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ImportError:
            raise AnswerLogError("a log of answers needs a system with file locks: Linux or macOS.") from None
        except OSError as error:
            raise AnswerLogError(
                f"the log of answers {self.path} cannot be written ({error.strerror or error}), and no answer is given "
                "without its line. Make room or mend its folder, or name another file."
            ) from error


def _require_private(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError("others may write to it: chmod go-w")


def _require_log(file: int) -> None:
    """Refuse a file of another kind, which a line at its end would damage."""
    begins = os.pread(file, len(_BEGINS), 0)
    if not _BEGINS.startswith(begins):
        raise OSError("it holds something else than a log of answers")


def _last_line(file: int, size: int) -> bytes:
    """The last line of a file, with its line break if it has one; of a longer one than any of ours the end."""
    end = os.pread(file, _LONGEST, max(0, size - _LONGEST))
    return end[end.rfind(b"\n", 0, -1) + 1 :]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
