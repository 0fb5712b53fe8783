"""Opening a package: what it says is checked before it is believed, and what was checked is what is used.

Every file is opened once: its bytes are hashed, and those that a model is made of are kept, so that nothing can be
exchanged between the check and the use. A package holds regular files only, all of them listed in SHA256SUMS, and
none larger than anything that `bus-mlops promote` writes.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ValidationError

from bus_mlops.consumer.package_format import (
    CARD_FILE,
    EXAMPLE_IMAGE,
    EXAMPLE_PREDICTION,
    ORIGIN_FILE,
    PACKAGE_FILE,
    SIGNATURE_FILE,
    SUMS_FILE,
    ExamplePrediction,
    Origin,
    Package,
    is_inside,
)
from bus_mlops.errors import DamagedPackageError, RegistryError
from bus_mlops.files import sha256_file

T = TypeVar("T", bound=BaseModel)
Content = TypeVar("Content")

# The largest that is read of each file, in bytes. An ONNX file cannot be larger than protobuf allows.
MAX_TEXT = 2**20
MAX_OTHER = 64 * 2**20
MAX_NETWORK = 2**31 - 1
MAX_FILES = 1000
TEXTS = (PACKAGE_FILE, SUMS_FILE, ORIGIN_FILE, CARD_FILE, SIGNATURE_FILE)
LIMITS = dict.fromkeys(TEXTS, MAX_TEXT)
# What no sum is of: the sums themselves, their signature, and what is said of a copy.
APART = (SUMS_FILE, SIGNATURE_FILE, ORIGIN_FILE)
NETWORKS = (".onnx", ".keras")
# Hashing leaves the interpreter's lock: two files at a time are read in half the time.
READERS = 2

_SUM_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$")


@dataclass(frozen=True)
class OpenedPackage:
    """A package whose files were all found as SHA256SUMS lists them.

    Attributes:
        digest: The sha256 of SHA256SUMS, which identifies the package whatever it is called.
        sums: The sha256 of every file, by its path within the package.
        contents: The bytes, as they were hashed, of the files that a model answers with: networks as ONNX, example.
        signature: The content of model.sig, which nobody has checked yet; None where there is none.
    """

    folder: Path
    package: Package
    digest: str
    sums: Mapping[str, str]
    contents: dict[str, bytes]
    signature: bytes | None = None

    @property
    def example(self) -> ExamplePrediction:
        """What the package answered to its own example when it was written."""
        where = self.folder / EXAMPLE_PREDICTION
        return _parsed(ExamplePrediction, self.contents[EXAMPLE_PREDICTION], where)


def open_package(folder: Path, digest: str | None = None, *, keep: bool = True) -> OpenedPackage:
    """Open a package and check every file of it.

    Args:
        folder: The package.
        digest: What its SHA256SUMS must have as sha256; by default it may be any.
        keep: Whether to keep the bytes that a model answers with; without them only the checks are made.

    Raises:
        DamagedPackageError: A file is missing, changed, not listed, no regular file, or larger than any that is
            written; names it.
        RegistryError: It is no package, or says what no package can mean.
    """
    if not (folder / PACKAGE_FILE).exists() and not (folder / SUMS_FILE).exists():
        raise DamagedPackageError(
            f"{folder} is not a model package: it has no {PACKAGE_FILE}. Give `models:/NAME@champion`, "
            "`models:/NAME/VERSION` or the folder of a package."
        )
    listing = _read(folder, SUMS_FILE)
    found = hashlib.sha256(listing).hexdigest()
    if digest is not None and found != digest:
        raise DamagedPackageError(
            f"{folder / SUMS_FILE} is not the file that was registered (its sha256 is not {digest}): the "
            "package was changed after registration. Register a new version; do not use this one."
        )
    sums = parse_sums(listing, folder / SUMS_FILE)
    _require_listed(folder, sums)
    text = _read(folder, PACKAGE_FILE)
    _require_same(folder, PACKAGE_FILE, hashlib.sha256(text).hexdigest(), sums)
    package = _parsed(Package, text, folder / PACKAGE_FILE)
    used = {name for member in package.members for name in (member.onnx, member.keras)}
    for name in sorted({*used, EXAMPLE_IMAGE, EXAMPLE_PREDICTION} - sums.keys()):
        raise DamagedPackageError(
            f"{folder / name} is not listed in {SUMS_FILE}: the package was changed. Do not use it."
        )
    kept = {EXAMPLE_IMAGE, EXAMPLE_PREDICTION, *(member.onnx for member in package.members)} if keep else set()
    contents = dict(_checked(folder, sums, kept))
    return OpenedPackage(folder, package, found, sums, contents, read_signature(folder))


def read_package(folder: Path) -> Package:
    """Read `package.json` alone, unchecked against SHA256SUMS: for a package that is being written.

    Raises:
        RegistryError: It is missing, or says what no package can mean.
    """
    return _parsed(Package, _read(folder, PACKAGE_FILE), folder / PACKAGE_FILE)


def read_sums(folder: Path) -> dict[str, str]:
    """The sha256 of every file that SHA256SUMS lists.

    Raises:
        DamagedPackageError: It is missing, or names a file outside.
    """
    return parse_sums(_read(folder, SUMS_FILE), folder / SUMS_FILE)


def parse_sums(content: bytes, where: Path) -> dict[str, str]:
    """The content of a SHA256SUMS.

    Raises:
        DamagedPackageError: A line is none of it, or names a file outside or one named before.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        match = _SUM_LINE.match(line)
        if match is None or not is_inside(match[2]) or match[2] in sums or number > MAX_FILES:
            raise DamagedPackageError(
                f"{where}:{number}: not a checksum line: {line[:100]!r}. Fetch the package again."
            )
        sums[match[2]] = match[1]
    return sums


def read_signature(folder: Path) -> bytes | None:
    """The content of a package's model.sig; None where it has none."""
    path = folder / SIGNATURE_FILE
    return _read(folder, SIGNATURE_FILE) if path.exists() or path.is_symlink() else None


def read_origin(folder: Path) -> Origin | None:
    """The origin of an exported copy; None for a package that was never exported."""
    path = folder / ORIGIN_FILE
    return parse_origin(_read(folder, ORIGIN_FILE), path) if path.exists() or path.is_symlink() else None


def parse_origin(content: bytes, where: Path | str) -> Origin:
    """The content of a `registry.json`.

    Raises:
        DamagedPackageError: It is not one.
    """
    try:
        return Origin.model_validate_json(content, strict=True)
    except ValidationError as error:
        message = f"{where} was changed: {error.errors()[0]['msg']}. Export the package again."
        raise DamagedPackageError(message) from None


def files_below(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its path within, links, pipes and the like included; links are not followed."""
    found = {}
    for base, folders, files in os.walk(folder):
        for name in (*files, *(each for each in folders if (Path(base) / each).is_symlink())):
            path = Path(base) / name
            found[path.relative_to(folder).as_posix()] = path
    return found


def sha256_below(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by its path within.

    Raises:
        DamagedPackageError: One is no regular file.
    """
    return {name: _opened(folder, name, _hash) for name in sorted(files_below(folder))}


def _require_listed(folder: Path, sums: Mapping[str, str]) -> None:
    there = files_below(folder)
    for name in sorted(there.keys() - sums.keys() - set(APART)):
        raise DamagedPackageError(
            f"{folder / name} is not listed in {SUMS_FILE}: it is no part of the package. Remove it, or fetch the "
            "package again."
        )
    for name in sorted(sums.keys() - there.keys()):
        raise DamagedPackageError(f"{folder / name} is missing, though {SUMS_FILE} lists it. Fetch the package again.")


def _require_same(folder: Path, name: str, found: str, sums: Mapping[str, str]) -> None:
    if found != sums.get(name):
        raise DamagedPackageError(
            f"{folder / name} was changed: its sha256 is not the one in {SUMS_FILE}. Do not use it; fetch the "
            "package again."
        )


def _checked(folder: Path, sums: Mapping[str, str], kept: set[str]) -> Iterator[tuple[str, bytes]]:
    """Hash every file but package.json, which was; the bytes of those to keep."""

    def look(name: str) -> tuple[str, bytes | None]:
        content = _read(folder, name) if name in kept else None
        found = _opened(folder, name, _hash) if content is None else hashlib.sha256(content).hexdigest()
        _require_same(folder, name, found, sums)
        return name, content

    with ThreadPoolExecutor(READERS) as pool:
        for name, content in pool.map(look, sorted(sums.keys() - {PACKAGE_FILE})):
            if content is not None:
                yield name, content


def _read(folder: Path, name: str) -> bytes:
    return _opened(folder, name, lambda stream: stream.read())


def _hash(stream: IO[bytes]) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # a file opened for reading


def _opened(folder: Path, name: str, use: Callable[[IO[bytes]], Content]) -> Content:
    """Use a regular file of bounded size; a link is not followed, and a pipe not waited for."""
    path = folder / name
    # What a system lacks of these, it has no such files to guard against.
    flags = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise DamagedPackageError(
            f"{path} is missing: the package cannot be checked. Fetch the package again."
        ) from None
    except PermissionError:
        raise
    except OSError as error:
        raise DamagedPackageError(
            f"{path} cannot be read as a file ({error.strerror}): a package holds regular files only, no links. Fetch "
            "the package again."
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        limit = MAX_NETWORK if path.suffix in NETWORKS else LIMITS.get(name, MAX_OTHER)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedPackageError(f"{path} is no regular file. Fetch the package again.")
        if status.st_size > limit:
            raise DamagedPackageError(
                f"{path} has {status.st_size} bytes, more than any such file of a package ({limit}). Do not use it; "
                "fetch the package again."
            )
        return use(stream)


def _parsed(kind: type[T], content: bytes, where: Path) -> T:
    try:
        return kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or where.name
        raise RegistryError(
            f"{where}: {key}: {first['msg']}. It was written by another version of bus-mlops, or changed by "
            "hand; write the package anew, or install the version that wrote it."
        ) from None


def write_sums(folder: Path) -> Path:
    """Write SHA256SUMS over every file of a package."""
    apart = tuple(folder / name for name in APART)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in apart)
    lines = [f"{sha256_file(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    path = folder / SUMS_FILE
    path.write_text("".join(lines), encoding="utf-8")
    return path
