"""Copies of a package that need no registry any more: exported to a folder or a bucket, or pulled into the cache."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from bus_mlops.consumer.cache import Pulled, cache_folder, put, remember
from bus_mlops.consumer.find import find
from bus_mlops.consumer.package_files import OpenedPackage, open_package, parse_origin, read_origin
from bus_mlops.consumer.package_format import ORIGIN_FILE, SIGNATURE_FILE, SUMS_FILE, Origin
from bus_mlops.consumer.resolve import default_tracking_uri
from bus_mlops.consumer.standing import reconciled
from bus_mlops.errors import DamagedPackageError, RegistryError
from bus_mlops.files import anchored, replaced_folder, write_json


@dataclass(frozen=True)
class Checked:
    """A package on this machine whose files all have the right sha256, and what it is registered as."""

    opened: OpenedPackage
    origin: Origin

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.opened.folder


def checked(uri: str, tracking_uri: str | None = None) -> Checked:
    """Find a package as `load_model` does and check every file.

    Raises:
        RegistryError: A file was changed; names it.
    """
    location, opened = find(uri, tracking_uri)
    name = location.name or opened.package.name
    standing = reconciled(location.standing, opened.package.gate).copied()
    decision = None if location.decision is None else dict(location.decision)
    return Checked(
        opened, Origin(name=name, version=location.version, digest=opened.digest, standing=standing, decision=decision)
    )


def export(uri: str, target: str, tracking_uri: str | None = None) -> Origin:
    """Copy a package with its checksums to a folder or to `s3://BUCKET/PREFIX`.

    SHA256SUMS is written last, so that a copy cut off is never taken for a package; to export again finishes it.

    Returns:
        What was copied.

    Raises:
        RegistryError: The target holds something else, or cannot be written.
    """
    source = _of_the_version(checked(uri, tracking_uri))
    if target.startswith("s3://"):
        _to_s3(source, target)
        return source.origin
    try:
        _to_folder(source, Path(target).expanduser().resolve())
    except PermissionError:
        raise  # says itself what to do
    except (OSError, RuntimeError, ValueError) as error:  # no folder can be there; a home that is none
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RegistryError(f"{target!r} cannot be written: {error}. Name another folder.") from error
    return source.origin


def _of_the_version(source: Checked) -> Checked:
    """Without what is strange about the alias that it was asked for by: a copy is asked for by its place."""
    standing = source.origin.standing and source.origin.standing.model_copy(update={"unexplained": ""})
    return replace(source, origin=source.origin.model_copy(update={"standing": standing}))


def pull(uri: str, tracking_uri: str | None = None) -> tuple[Path, Pulled]:
    """Keep a package in the cache, by digest; from then on `load_model` finds it though the store be away."""
    source = checked(uri, tracking_uri)
    target = cache_folder() / source.origin.digest
    if not _is_whole(target, source):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="pulling-") as temporary:
            _copy(source, Path(temporary) / "package")
            put(Path(temporary) / "package", target)
    store = "s3" if uri.startswith("s3://") else anchored(tracking_uri or default_tracking_uri())
    return target, remember(store, uri, source.origin)


def _is_whole(folder: Path, source: Checked) -> bool:
    try:
        return open_package(folder, source.origin.digest, keep=False).signature == source.opened.signature
    except RegistryError:  # not there, cut off or damaged
        return False


def _to_folder(source: Checked, folder: Path) -> None:
    if not folder.exists():
        with replaced_folder(folder) as partial:
            _copy(source, partial)
        return
    present = read_origin(folder) if folder.is_dir() else None
    if present is not None:
        _require_same(str(folder), present, source.origin)
        if (folder / SUMS_FILE).exists():
            open_package(folder, source.origin.digest, keep=False)
            _write_signature(source, folder)
            if present.timeless != source.origin.timeless:
                write_json(folder / ORIGIN_FILE, source.origin.model_dump())
            return
    elif not folder.is_dir() or any(folder.iterdir()):
        raise RegistryError(f"{folder} holds something that is not an exported package. Name another folder.")
    # It may be where somebody stands, or a disk of its own: it is filled, not replaced.
    _copy(source, folder)


def _copy(source: Checked, folder: Path) -> None:
    """Copy what the sums list, nothing else that may lie there, SHA256SUMS last, and check the copy."""
    folder.mkdir(exist_ok=True)
    write_json(folder / ORIGIN_FILE, source.origin.model_dump())
    _write_signature(source, folder)
    for name in (*source.opened.sums, SUMS_FILE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.folder / name, folder / name)
    try:
        open_package(folder, source.origin.digest, keep=False)
    except DamagedPackageError:
        (folder / SUMS_FILE).unlink(missing_ok=True)  # what is not whole must not look so
        raise


def _write_signature(source: Checked, folder: Path) -> None:
    """The signature as it was checked; another that lay there before is none of this copy's."""
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    if source.opened.signature is not None:
        (folder / SIGNATURE_FILE).write_bytes(source.opened.signature)


def _to_s3(source: Checked, uri: str) -> None:
    from bus_mlops.consumer.s3 import get, open_s3, readable, split, upload

    bucket, prefix = split(uri)
    with readable(uri):
        client = open_s3()
        present = get(client, bucket, f"{prefix}/{ORIGIN_FILE}")
        there = None if present is None else parse_origin(present, f"{uri}/{ORIGIN_FILE}")
        if there is not None:
            _require_same(uri, there, source.origin)
        # First of all, so that a prefix belongs to one version from the beginning; again for what was decided since.
        if there is None or there.timeless != source.origin.timeless:
            origin = json.dumps(source.origin.model_dump(), indent=2).encode()
            client.put_object(Bucket=bucket, Key=f"{prefix}/{ORIGIN_FILE}", Body=origin)
        for name, digest in source.opened.sums.items():
            upload(client, source.folder / name, bucket, f"{prefix}/{name}", digest)
        if source.opened.signature is not None:
            client.put_object(Bucket=bucket, Key=f"{prefix}/{SIGNATURE_FILE}", Body=source.opened.signature)
        upload(client, source.folder / SUMS_FILE, bucket, f"{prefix}/{SUMS_FILE}", source.origin.digest)


def _require_same(where: str, present: Origin, wanted: Origin) -> None:
    if not present.is_of(wanted):
        raise RegistryError(
            f"{where} holds {present.name} version {present.version or 'unknown'} ({present.digest[:12]}). Name a "
            "folder of its own for each version."
        )
