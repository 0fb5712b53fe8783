"""Downloading a source that its owner offers to everyone under a licence: whole archives, checked and unpacked.

What arrives is kept below `.fetch/` of the folder of all sources until it is whole, so that the next run goes on where
this one ended; the source's own folder appears complete or not at all. pooch asks, checks and names the checksums.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bus_mlops import __version__
from bus_mlops.errors import ConfigError, SourceError
from bus_mlops.files import replaced_folder
from bus_mlops.sources.registry import NOTICE_FILE, is_synthetic
from bus_mlops.sources.source import Archive, Release, Source

if TYPE_CHECKING:
    from requests import Response

KEPT = ".fetch"
_CHUNK = 16_384  # bytes; of what breaks off, so many are lost at most
_LARGEST = 20 * 2**30  # bytes unpacked; the sources have up to about one GiB
_MOST_MEMBERS = 100_000
# Bytes that have arrived, and all there will be (0: the server does not say).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Patience:
    """How often a server is asked for one file, and how long is waited.

    Attributes:
        attempts: In a row without a byte that arrived.
        pause: Before the second, in seconds; doubles with each further one.
        timeout: How many seconds the server may be silent.
    """

    attempts: int = 5
    pause: float = 2.0
    timeout: float = 30.0
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Arrived:
    """A file that is there and whole; `known` says whether its checksum was known before."""

    name: str
    sha256: str
    known: bool


def fetch_release(
    source: Source, root: Path, patience: Patience | None = None, progress: Progress = lambda *_: None
) -> list[Arrived]:
    """Download what a source's owner offers, check it, and unpack it into the source's folder below root.

    Args:
        source: With a release.
        root: The folder of all sources.
        patience: With the server.
        progress: Called as bytes arrive, with the file's name.

    Returns:
        The files that were unpacked.

    Raises:
        ConfigError: The source is not offered so, root holds phantoms, or the source's folder holds something.
        SourceError: A file does not arrive, is not what its checksum says, or is no archive that may be unpacked.
    """
    release, folder = require_release(source), root / source.name
    if is_synthetic(root):
        raise ConfigError(f"{root} holds synthetic images ({NOTICE_FILE} says so). Name another folder with --root.")
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is there already, and nothing is downloaded over it: look at it with `bus-mlops sources "
            "verify`, or move it away."
        )
    kept = root / KEPT / source.name
    kept.mkdir(parents=True, exist_ok=True)
    arrived = [_fetch(each, release, kept, patience or Patience(), progress) for each in release.files]
    with replaced_folder(folder) as partial:
        for each in release.files:
            _put(kept / each.name, partial)
    shutil.rmtree(kept)
    if not any((root / KEPT).iterdir()):
        (root / KEPT).rmdir()
    return arrived


def require_release(source: Source) -> Release:
    """What a source's owner offers to everyone.

    Raises:
        ConfigError: Nothing, and it says what is known.
    """
    if source.release is None:
        raise source.cannot_be_downloaded()
    return source.release


def _fetch(archive: Archive, release: Release, kept: Path, patience: Patience, progress: Progress) -> Arrived:
    """One file, whole, in the folder of what is kept; at once where it is there already."""
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("ERROR")
    by_hand = (
        f"Where this machine has no way out, get {archive.url} (or the file from {release.page}) on another one, put "
        f"it there as {kept / archive.name} and run the command again: it is checked and unpacked"
    )
    try:
        path = pooch.retrieve(
            archive.url,
            known_hash=archive.checksum,
            fname=archive.name,
            path=kept,
            downloader=_Resuming(kept / f"{archive.name}.part", patience, progress),
        )
    except ValueError as error:  # as pooch calls another checksum
        raise SourceError(
            f"{archive.name} is not the file that was expected: {error}. What arrived is thrown away. Run the command "
            f"again; if it stays so, the owner has changed the file, and {release.page} should say why."
        ) from None
    except RequestException as error:
        part = kept / f"{archive.name}.part"
        have = f" {part.stat().st_size:,} bytes of it are kept." if part.is_file() else ""
        raise SourceError(
            f"{archive.url} did not arrive: {_reason(error)}.{have} Run the command again to go on. {by_hand}."
        ) from None
    except OSError as error:
        raise SourceError(
            f"{kept / archive.name} cannot be written: {error}. Free some space, and run it again."
        ) from None
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Arrived(archive.name, digest, known=archive.checksum is not None)


def _reason(error: Exception) -> str:
    """The innermost of what urllib3 and requests wrapped around what happened, in one line."""
    while inner := next((each for each in error.args if isinstance(each, Exception)), None) or getattr(
        error, "reason", None
    ):
        if not isinstance(inner, Exception):
            break
        error = inner
    return " ".join(str(error).split()) or type(error).__name__


@dataclass
class _Resuming:
    """A downloader for pooch that keeps what has arrived in `part` and asks for the rest, also in another process."""

    part: Path
    patience: Patience
    progress: Progress
    _total: int = field(default=0, init=False)

    def __call__(self, url: str, output_file: Any, *_: Any) -> None:
        from requests.exceptions import HTTPError, RequestException

        failures, pause = 0, self.patience.pause
        while True:
            before = self._size()
            try:
                self._attempt(url)
                break
            except RequestException as error:
                status = (
                    error.response.status_code if isinstance(error, HTTPError) and error.response is not None else 0
                )
                if status == 416 and _whole(error, before):
                    break
                if status == 416 and before:  # the server's file is shorter than ours: it is another one
                    self.part.unlink()
                    self._mark.unlink(missing_ok=True)
                elif 400 <= status < 500 and status not in (408, 425, 429):
                    raise
                failures = 0 if self._size() > before else failures + 1
                if failures >= self.patience.attempts:
                    raise
            self.patience.sleep(pause if failures else self.patience.pause)
            pause = pause * 2 if failures else self.patience.pause
        self._mark.unlink(missing_ok=True)
        shutil.move(self.part, output_file)

    @property
    def _mark(self) -> Path:
        """Where the server's name for the version of the file is kept, so that two versions are never joined."""
        return self.part.with_suffix(".etag")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _attempt(self, url: str) -> None:
        """Ask for what is missing; pooch's own downloader writes it behind what is there."""
        import pooch

        have = self._size()
        mark = self._mark.read_text(encoding="utf-8") if have and self._mark.is_file() else ""
        headers = {"User-Agent": f"bus-mlops/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": mark} if mark else {})
        with self.part.open("ab") as file:

            def begun(response: Response, **_: Any) -> None:
                if (
                    response.status_code == 200
                ):  # from the beginning: the server does not resume, or has another version
                    file.truncate(0)
                    file.seek(0)
                    self._mark.write_text(_version(response), encoding="utf-8")
                if response.ok and not response.is_redirect:
                    length = response.headers.get("Content-Length", "")
                    start = have if response.status_code == 206 else 0
                    self._total = start + int(length) if length.isdecimal() else 0

            download = pooch.HTTPDownloader(
                progressbar=_Bar(lambda: self.progress(self.part.stem, self._size(), self._total)),
                chunk_size=_CHUNK,
                headers=headers,
                timeout=self.patience.timeout,
                hooks={"response": begun},
            )
            download(url, file, None)


def _whole(error: Exception, have: int) -> bool:
    """Whether a server that has nothing to add says that it has no more bytes than we."""
    response = getattr(error, "response", None)
    return response is not None and have > 0 and response.headers.get("Content-Range") == f"bytes */{have}"


@dataclass
class _Bar:
    """What pooch takes for a progress bar; the file says how much there is."""

    tell: Callable[[], None]
    total: int = 0

    def update(self, _: int) -> None:
        """Some bytes were written."""
        self.tell()

    def reset(self) -> None:
        """All bytes were written."""

    def close(self) -> None:
        """All bytes were written."""


def _version(response: Response) -> str:
    """A strong mark of the version of what a server sends; empty where there is none."""
    mark = str(response.headers.get("ETag", ""))
    return "" if mark.startswith("W/") else mark


def _put(path: Path, folder: Path) -> None:
    """An archive's content, or a file that is none, into a folder.

    Raises:
        SourceError: The archive is damaged, or would write beside the folder.
    """
    if path.suffix.lower() != ".zip":
        shutil.copyfile(path, folder / path.name)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _require_harmless(members, path)
            for member in members:
                archive.extract(member, folder)  # checks the CRC
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise SourceError(f"{path} cannot be unpacked ({error}). Remove it, and run the command again.") from error


def _require_harmless(members: list[zipfile.ZipInfo], path: Path) -> None:
    size = sum(member.file_size for member in members)
    if len(members) > _MOST_MEMBERS or size > _LARGEST:
        raise SourceError(f"{path} holds {len(members)} files of {size:,} bytes: no source is so large. Remove it.")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0] or link:
            raise SourceError(f"{path} holds {member.filename!r}, a link or a path that leaves the folder. Remove it.")
