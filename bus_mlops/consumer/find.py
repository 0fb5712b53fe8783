"""From what a person calls a model to a package that was opened and checked; a damaged copy is fetched again."""

from __future__ import annotations

import logging

from bus_mlops.consumer.package_files import OpenedPackage, open_package
from bus_mlops.consumer.resolve import Location, resolve
from bus_mlops.errors import DamagedPackageError, StoreError

LOG = logging.getLogger(__name__)


def find(uri: str, tracking_uri: str | None = None) -> tuple[Location, OpenedPackage]:
    """Find a package as `resolve` does, and open it.

    A copy in the cache that is damaged, or was left half-written, is fetched again, with a warning that says so.

    Raises:
        RegistryError: It is not there, or a file of it was changed; of a damaged copy, why it cannot be fetched again.
    """
    location = None
    try:
        location = resolve(uri, tracking_uri)
        return location, open_package(location.folder, location.digest)
    except DamagedPackageError as error:
        if not (location.is_cached if location else uri.startswith("s3://")):
            raise
        damage = error
    LOG.warning("%s: the copy in the cache is damaged and is fetched again: %s", uri, damage)
    try:
        location = resolve(uri, tracking_uri, fresh=True)
    except StoreError as error:
        raise StoreError(
            f"{uri}: the copy in the cache is damaged ({damage}) and cannot be fetched again: {error} Run the same "
            "command again once the store can be reached."
        ) from error
    return location, open_package(location.folder, location.digest)
