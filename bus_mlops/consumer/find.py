"""From what a person calls a model to a package that was opened and checked; a damaged copy is fetched again."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal

from bus_mlops.consumer.package_files import OpenedPackage, open_package
from bus_mlops.consumer.resolve import Location, resolve
from bus_mlops.consumer.signatures import check_decision, check_package
from bus_mlops.consumer.standing import SIGNED, Standing, of_version
from bus_mlops.consumer.trusted_keys import TrustedKeys, trusted_keys
from bus_mlops.errors import DamagedPackageError, StoreError, UntrustedError

LOG = logging.getLogger(__name__)
# Digests of packages that were said to be unsigned, or unchecked: once a process is enough.
_SAID: set[str] = set()


def find(uri: str, tracking_uri: str | None = None) -> tuple[Location, OpenedPackage]:
    """Find a package as `resolve` does, open it, and check who signed it.

    A copy in the cache that is damaged, or was left half-written, is fetched again, with a warning that says so.

    Raises:
        RegistryError: It is not there, or a file of it was changed; of a damaged copy, why it cannot be fetched again.
        UntrustedError: Keys are trusted here, and none of them has signed it, or the decision that it is called by.
    """
    keys = trusted_keys()
    location, opened = _opened(uri, tracking_uri)
    if keys is not None and opened.signature is None and location.is_cached:
        location, opened = _again(uri, tracking_uri, "it is not signed")  # it may be by now
    return _with_origin(uri, location, opened, keys), opened


def _opened(uri: str, tracking_uri: str | None) -> tuple[Location, OpenedPackage]:
    location = None
    try:
        location = resolve(uri, tracking_uri)
        return location, open_package(location.folder, location.digest)
    except DamagedPackageError as error:
        if not (location.is_cached if location else uri.startswith("s3://")):
            raise
        damage = str(error)
    return _again(uri, tracking_uri, damage)


def _again(uri: str, tracking_uri: str | None, damage: str) -> tuple[Location, OpenedPackage]:
    LOG.warning("%s: the copy in the cache is damaged and is fetched again: %s", uri, damage)
    try:
        location = resolve(uri, tracking_uri, fresh=True)
    except StoreError as error:
        raise StoreError(
            f"{uri}: the copy in the cache is damaged ({damage}) and cannot be fetched again: {error} Run the same "
            "command again once the store can be reached."
        ) from error
    return location, open_package(location.folder, location.digest)


def _with_origin(uri: str, location: Location, opened: OpenedPackage, keys: TrustedKeys | None) -> Location:
    """Say who made a package, as far as it is known; where keys are trusted it must be."""
    name = location.name or opened.package.name
    what = f"{name} version {location.version}" if location.version else f"{name} at {location.folder}"
    if keys is None:
        state: Literal["unsigned", "unchecked"] = "unsigned" if opened.signature is None else "unchecked"
        if opened.digest not in _SAID:
            _SAID.add(opened.digest)
            how = "docs/how-to/sign-and-trust-models.md says how to trust its makers alone."
            LOG.warning("%s:%s %s", what, SIGNED[state], how)
        return replace(location, standing=_marked(location.standing, signed=state))
    signer = check_package(opened.signature, opened.sums, opened.digest, what, keys).signer
    location = _believed(uri, location, opened, what, keys)
    return replace(location, standing=_marked(location.standing, signed="trusted", signer=signer))


def _believed(uri: str, location: Location, opened: OpenedPackage, what: str, keys: TrustedKeys) -> Location:
    """What is said of a copy, as far as a trusted key has signed it; a registry's word was checked with its record."""
    decision = location.decision
    if decision is None and uri.startswith("models:"):
        raise UntrustedError(
            f"{what}: the copy that was pulled has no signed decision, so what {uri} means is not known. Pull it again "
            "when the store can be reached."
        )
    if decision is None:
        if location.version is None:
            return location
        said = f"its registry.json calls it {what}, and no signed decision does"
        return Location(location.folder, digest=location.digest, standing=Standing(unexplained=said))
    check_decision(decision, decision.get("record", ""), keys)
    named = (decision.get("model"), decision.get("version"), decision.get("package"))
    if named != (location.name, location.version, opened.digest):
        raise UntrustedError(
            f"{what} ({opened.digest[:12]}): the signed decision that came with it is on {named[0]} version {named[1]} "
            f"({str(named[2])[:12]}). Do not use it; fetch it again."
        )
    if not uri.startswith("models:"):
        own = of_version(str(location.version), {}, [decision])
        as_of = location.standing.as_of if location.standing else ""
        location = replace(location, standing=own.model_copy(update={"as_of": as_of}))
    return location


def _marked(standing: Standing | None, *, signed: str, signer: str = "") -> Standing:
    return (standing or Standing()).model_copy(update={"signed": signed, "signer": signer})
