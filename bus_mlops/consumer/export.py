"""Copies of a package that need no registry any more: exported to a folder or a bucket, or pulled into the cache."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bus_mlops.consumer.cache import Pulled, cache_folder, remember
from bus_mlops.consumer.package_format import (
    ORIGIN_FILE,
    SUMS_FILE,
    Origin,
    Package,
    parse_origin,
    read_origin,
    read_package,
    read_sums,
    sha256_file,
    verify,
)
from bus_mlops.consumer.resolve import default_tracking_uri, resolve
from bus_mlops.errors import RegistryError
from bus_mlops.files import anchored, replaced_folder, settle, write_json


@dataclass(frozen=True)
class Checked:
    """A package on this machine whose files all have the right sha256."""

    folder: Path
    package: Package
    origin: Origin


def checked(uri: str, tracking_uri: str | None = None) -> Checked:
    """Find a package as `load_model` does and check every file.

    Raises:
        RegistryError: A file was changed; names it.
    """
    location = resolve(uri, tracking_uri)
    package = read_package(location.folder)
    verify(location.folder, package, location.digest)
    digest = sha256_file(location.folder / SUMS_FILE)
    origin = Origin(name=location.name or package.name, version=location.version, digest=digest)
    return Checked(location.folder, package, origin)


def export(uri: str, target: str, tracking_uri: str | None = None) -> Origin:
    """Copy a package with its checksums to a folder or to `s3://BUCKET/PREFIX`.

    SHA256SUMS is written last, so that a copy cut off is never taken for a package; to export again finishes it.

    Returns:
        What was copied.

    Raises:
        RegistryError: The target holds something else.
    """
    source = checked(uri, tracking_uri)
    if target.startswith("s3://"):
        _to_s3(source, target)
    else:
        _to_folder(source, Path(target).expanduser())
    return source.origin


def pull(uri: str, tracking_uri: str | None = None) -> tuple[Path, Pulled]:
    """Keep a package in the cache, by digest; from then on `load_model` finds it though the store be away."""
    source = checked(uri, tracking_uri)
    target = cache_folder() / source.origin.digest
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="pulling-") as temporary:
            _copy(source, Path(temporary) / "package")
            settle(Path(temporary) / "package", target)
    verify(target, source.package, source.origin.digest)
    store = "s3" if uri.startswith("s3://") else anchored(tracking_uri or default_tracking_uri())
    return target, remember(store, uri, source.origin.digest, source.origin.name, source.origin.version)


def _to_folder(source: Checked, folder: Path) -> None:
    if folder.exists():
        present = read_origin(folder) if folder.is_dir() else None
        if present is None:
            if not folder.is_dir() or any(folder.iterdir()):
                raise RegistryError(f"{folder} holds something that is not an exported package. Name another folder.")
        else:
            _require_same(str(folder), present, source.origin)
            verify(folder, source.package, source.origin.digest)
            return
    with replaced_folder(folder) as partial:
        _copy(source, partial)


def _copy(source: Checked, folder: Path) -> None:
    """Copy what the sums list, nothing else that may lie there, and check the copy."""
    for name in (*read_sums(source.folder), SUMS_FILE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.folder / name, folder / name)
    write_json(folder / ORIGIN_FILE, source.origin.model_dump())
    verify(folder, source.package, source.origin.digest)


def _to_s3(source: Checked, uri: str) -> None:
    from bus_mlops.consumer.s3 import get, open_s3, readable, split, upload

    bucket, prefix = split(uri)
    with readable(uri):
        client = open_s3()
        present = get(client, bucket, f"{prefix}/{ORIGIN_FILE}")
        if present is not None:
            _require_same(uri, parse_origin(present, f"{uri}/{ORIGIN_FILE}"), source.origin)
        else:
            # First of all, so that a prefix belongs to one version from the beginning.
            origin = json.dumps(source.origin.model_dump(), indent=2).encode()
            client.put_object(Bucket=bucket, Key=f"{prefix}/{ORIGIN_FILE}", Body=origin)
        for name, digest in read_sums(source.folder).items():
            upload(client, source.folder / name, bucket, f"{prefix}/{name}", digest)
        upload(client, source.folder / SUMS_FILE, bucket, f"{prefix}/{SUMS_FILE}", source.origin.digest)


def _require_same(where: str, present: Origin, wanted: Origin) -> None:
    if present != wanted:
        raise RegistryError(
            f"{where} holds {present.name} version {present.version or 'unknown'} ({present.digest[:12]}). Name a "
            "folder of its own for each version."
        )
