"""Downloading a source from its owner's site, as the user's own table lists the images.

Resumable: images that are there and whole are passed over, and an image appears under its name whole or not at
all. Who has no permission of the owner must not do this; the command asks.
"""

from __future__ import annotations

import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bus_mlops.errors import ConfigError, ImageError, SourceError
from bus_mlops.files import replacing
from bus_mlops.images.decode import decode_image
from bus_mlops.sources.download import Cause, Client, DownloadError
from bus_mlops.sources.record import images_by_name, strip_suffix
from bus_mlops.sources.registry import NOTICE_FILE, is_synthetic
from bus_mlops.sources.source import Download, Source
from bus_mlops.sources.tables import read_table

# So many images in a row that failed mean that going on is useless, and unkind to the server.
_MOST_SILENT, _MOST_REFUSED = 3, 20
_LONGEST_NAME = 200  # bytes; file systems take 255, of which a temporary name needs some
_LEFTOVER = re.compile(r"\..+\.(jpg|png|bmp)\.[a-z0-9_]{8}\.(jpg|png|bmp)")


class ListedImage(NamedTuple):
    """A row of the table: the image's name without suffix, where it is, and the row for messages."""

    name: str
    url: str
    where: str


class Failure(NamedTuple):
    """An image that is not there and why."""

    image: ListedImage
    reason: str


@dataclass
class Fetched:
    """What a fetch came to, in images; `stopped` says why it ended before the list did."""

    listed: int
    there: int = 0
    downloaded: int = 0
    replaced: int = 0
    failures: list[Failure] = field(default_factory=list)
    stopped: str = ""

    @property
    def complete(self) -> bool:
        """Whether every image of the list is there and whole."""
        return self.there + self.downloaded == self.listed

    @property
    def not_tried(self) -> int:
        """Images that a stop left over."""
        return self.listed - self.there - self.downloaded - len(self.failures)


def read_list(metadata: Path, source: Source) -> list[ListedImage]:
    """The images that a copy of a source's table lists, by its columns of names and addresses.

    Raises:
        SourceError: The table is missing or malformed, or names an image twice.
        ConfigError: The source cannot be downloaded.
    """
    download = _download_facts(source)
    if not metadata.is_file():
        raise SourceError(f"{metadata} not found. --metadata is your copy of {download.table}.")
    listed: dict[str, ListedImage] = {}
    for row in read_table(metadata, (download.url, download.name)):
        image = ListedImage(strip_suffix(row.text(download.name)), row[download.url], row.where)
        if len(image.name.encode()) > _LONGEST_NAME:
            raise SourceError(
                f"{row.where}: {download.name} = {image.name[:40]!r}... is too long for a file. Shorten it."
            )
        first = listed.setdefault(image.name, image)
        if first is not image:
            raise SourceError(
                f"{image.where}: image name {image.name!r} was already used by {first.where}. Take out one of the two."
            )
    return list(listed.values())


def hosts(images: Sequence[ListedImage]) -> list[str]:
    """The servers that would be asked, most images first."""
    return [host for host, _ in Counter(_host(image.url) for image in images).most_common() if host]


def fetch(
    source: Source, metadata: Path, root: Path, client: Client, progress: Callable[[ListedImage], None] = lambda _: None
) -> Fetched:
    """Download what is missing of a source's images into its folder below root, and put its table beside them.

    Args:
        source: Its columns say where the images are.
        metadata: The table.
        root: The folder of all sources.
        client: What asks the server.
        progress: Called for each image that is done with.

    Returns:
        An image that does not arrive is a failure in it, and the rest go on; after several in a row the fetch stops.

    Raises:
        ConfigError: The source cannot be downloaded, or root holds phantoms.
        SourceError: Another table is there.
    """
    if is_synthetic(root):
        raise ConfigError(f"{root} holds synthetic images ({NOTICE_FILE} says so). Name another folder with --root.")
    download, images = _download_facts(source), read_list(metadata, source)
    folder = root / source.name / download.folder
    folder.mkdir(parents=True, exist_ok=True)
    _keep_table(metadata, root / source.name / download.table)
    for path in folder.glob(".*"):
        if _LEFTOVER.fullmatch(path.name):  # of a process that was killed while it wrote
            path.unlink(missing_ok=True)
    present, result, streak = images_by_name(folder), Fetched(len(images)), list[Cause]()
    for image in images:
        progress(image)
        old = present.get(image.name)
        if old and _whole(old):
            result.there += 1
            continue
        try:
            _download(client, image, folder, old)
        except DownloadError as error:
            result.failures.append(Failure(image, str(error)))
            streak = streak if error.cause is Cause.GONE else [*streak, error.cause]
            result.stopped = _why_stop(streak, str(error))
            if result.stopped:
                break
            continue
        streak = []
        result.downloaded += 1
        result.replaced += old is not None
    return result


def _download_facts(source: Source) -> Download:
    if source.download is None:
        raise source.cannot_be_downloaded()
    return source.download


def _download(client: Client, image: ListedImage, folder: Path, old: Path | None) -> None:
    got = client.image(image.url)
    target = folder / f"{image.name}{got.suffix}"
    with replacing(target) as temporary:
        temporary.write_bytes(got.data)
    if old and old != target:
        old.unlink()


def _keep_table(metadata: Path, target: Path) -> None:
    data = metadata.read_bytes()
    if target.exists():
        if target.read_bytes() != data:
            raise SourceError(
                f"{target} is there already and differs from {metadata}. Name {target} with --metadata, or move "
                "it away."
            )
        return
    with replacing(target) as temporary:
        temporary.write_bytes(data)


def _whole(path: Path) -> bool:
    try:
        decode_image(path)
    except ImageError:
        return False
    return True


def _why_stop(streak: Sequence[Cause], reason: str) -> str:
    silent = 0
    for cause in reversed(streak):
        if cause is not Cause.SILENT:
            break
        silent += 1
    if silent >= _MOST_SILENT:
        return f"the server failed {silent} images in a row; the last time, {reason}"
    if len(streak) >= _MOST_REFUSED:
        return f"{len(streak)} images in a row failed; the last time, {reason}"
    return ""


def _host(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""
