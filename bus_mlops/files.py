"""Writing files and folders so that a reader never sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from bus_mlops.errors import FileContentError

_MADE_ANEW = "Mend it, or remove it and run the command that writes it again."


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place on success and vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors about a temporary name beside a path name the path, since nobody has heard of the other."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to write into; it takes its place when the block ends well.

    On an error nothing is left behind and the former folder stays. What a killed process left is swept
    away by the next one.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    with _naming(folder):
        partial = Path(tempfile.mkdtemp(prefix=f"{_prefix(folder)}{os.getpid()}-", dir=folder.parent))
    partial.chmod(0o755)
    try:
        yield partial
        if folder.exists():
            former = partial.with_name(partial.name + "-former")
            folder.rename(former)
            try:
                partial.rename(folder)
            except OSError:
                former.rename(folder)
                raise
            shutil.rmtree(former)
        else:
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def settle(folder: Path, target: Path) -> Path:
    """Put a finished folder in its place; what another process put there first has the same content and stays."""
    try:
        return folder.rename(target)
    except OSError:
        if target.is_dir():
            return target
        raise


# What other systems and programs leave in folders: macOS, Windows, Synology, half-finished copies and downloads.
_LITTER = re.compile(
    r"\..*|thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|icon\r|@eadir|__macosx|#recycle|\$recycle\.bin|~\$.*|.*~"
    r"|system volume information|lost\+found|.*\.(tmp|part|partial|crdownload|lnk|bak)",
    re.IGNORECASE,
)


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is another system's, and nobody's image.

    >>> [is_litter(name) for name in ("._scan.png", "Thumbs.db", "scan.png")]
    [True, True, False]
    """
    return _LITTER.fullmatch(name) is not None


def printable(path: str | Path) -> str:
    r"""A path for messages, tables and manifests: bytes that are no UTF-8 and unprintable characters are escaped.

    >>> printable(os.fsdecode(b"gr\xfcn.png"))
    'gr\\xfcn.png'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def sqlite_file(uri: str) -> Path | None:
    """The file behind an `sqlite:///` URI; None for any other store.

    The path may be written as it is or with %-codes, as in a URI: where both could be meant, what is there decides.

    >>> sqlite_file("sqlite:///mlflow.db")
    PosixPath('mlflow.db')
    """
    if not uri.startswith("sqlite:///"):
        return None
    written = Path(uri.removeprefix("sqlite:///"))
    decoded = Path(unquote(str(written).partition("?")[0]))
    there = [*filter(Path.exists, (written, decoded)), *(p for p in (written, decoded) if p.parent.exists())]
    return there[0] if there else written


def anchored(uri: str) -> str:
    """The same store from any working folder: MLflow keeps one connection a process for each address it is given.

    With a relative one, a process that changes its folder would go on with the store of the former folder.

    >>> anchored("http://mlflow:5000")
    'http://mlflow:5000'
    """
    file = sqlite_file(uri)
    if file is None:
        return uri
    path = str(file.resolve())
    # SQLAlchemy decodes %-codes and takes ? for the end of the path. MLflow does not decode, and makes the folder that
    # it takes the path to lie in: with the slashes in code too, that is the working folder.
    return f"sqlite:///{quote(path, safe='') if set('%?') & set(path) else path}"


def local_path(address: str) -> Path | None:
    """The folder behind an artifact address, `file:///...` or a path; None for any other store."""
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return Path(address) if address.startswith("/") else None


def sqlite_problem(file: Path, patience: float = 5.0) -> str:
    """What is wrong with an SQLite file that holds something; "" where nothing is, or another process has locked it.

    Reads all of it: about a second for 500 MB. A lock is waited for so many seconds.
    """
    with file.open("rb") as handle:
        magic = handle.read(16)
    if magic != b"SQLite format 3\x00":
        return "it is not an SQLite database"
    try:
        # Writable, since what a killed process began is taken back at the next opening.
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", timeout=patience, uri=True)) as database:
            found = str(database.execute("pragma quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return "" if "locked" in str(error) else str(error)
    return "" if found == "ok" else " ".join(found.split())


def sha256_file(path: Path) -> str:
    """64 hexadecimal digits over a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours, which a person may have edited.

    Raises:
        FileContentError: Names file and line of what is no JSON, or a key that stands twice in one object.
        FileNotFoundError: There is no such file.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
        raise FileContentError(f"{path} is not a file. {_MADE_ANEW}")
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_each_once)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileContentError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02X} is no text. {_MADE_ANEW}"
        ) from None
    except json.JSONDecodeError as error:
        found = content.decode("utf-8").split("\n")[error.lineno - 1].strip()[:60]
        what = f"{error.msg} in {found!r}" if found else f"{error.msg}: the file is empty or cut off"
        raise FileContentError(f"{path}, line {error.lineno}: is not valid JSON: {what}. {_MADE_ANEW}") from None
    except _Twice as error:
        key = json.dumps(str(error), ensure_ascii=False)
        lines = [str(n) for n, line in enumerate(content.decode("utf-8").split("\n"), 1) if key in line]
        raise FileContentError(
            f"{path}: the key {key} stands twice in one object (it is in line {', '.join(lines[:10])}): keep one."
        ) from None
    except RecursionError:
        raise FileContentError(
            f"{path} holds more levels, one in the other, than any file of ours. {_MADE_ANEW}"
        ) from None


class _Twice(Exception):  # noqa: N818 - raised and caught here
    """A key that an object has already."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return values


def _prefix(folder: Path) -> str:
    return f".{folder.name}.partial-"


def _sweep(folder: Path) -> None:
    for left in folder.parent.glob(f"{_prefix(folder)}*"):
        owner = left.name.removeprefix(_prefix(folder)).split("-")[0]
        if not (owner.isdigit() and is_alive(int(owner))):
            shutil.rmtree(left, ignore_errors=True)


def is_alive(process: int) -> bool:
    """Whether a process of this number is there; of whatever user, and zombies count."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
