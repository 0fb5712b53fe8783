"""Certificates of signers: whether one holds today, is for signatures, and which authority stands behind it.

A bundle bears no time that could be believed: what counts is whether the certificates hold now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bus_mlops.consumer.public_keys import short
from bus_mlops.errors import UntrustedError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def certificate_fingerprint(certificate: Certificate) -> str:
    """64 hexadecimal digits: the sha256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return certificate.fingerprint(SHA256()).hex()


def is_authority(certificate: Certificate) -> bool:
    """Whether it says that it certifies others."""
    from cryptography import x509

    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def require_in_time(certificate: Certificate, what: str) -> None:
    """Raise an UntrustedError unless it holds today; `what` has been signed."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= datetime.now(UTC) <= end:
        raise UntrustedError(
            f"{what}: the certificate of {certificate.subject.rfc4514_string()} "
            f"({short(certificate_fingerprint(certificate))}) holds from {start:%Y-%m-%d} to {end:%Y-%m-%d} only. Its "
            "makers renew it and sign the same package again (`bus-mlops sign`)."
        )


def require_signer(leaf: Certificate, what: str) -> None:
    """Raise an UntrustedError unless it is for digital signatures, or for signing code, as model-signing asks."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        usage = False
    try:
        code = ExtendedKeyUsageOID.CODE_SIGNING in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        code = False
    if not (usage or code):
        raise UntrustedError(
            f"{what}: the certificate of {leaf.subject.rfc4514_string()} is not for signatures (KeyUsage "
            "digitalSignature, or ExtendedKeyUsage codeSigning). Its makers need one that is."
        )


def path_to_authority(
    leaf: Certificate, between: Iterable[Certificate], authorities: Collection[Certificate]
) -> list[Certificate]:
    """The issuers of a certificate, one after the other, up to an authority; none if they lead to no authority.

    Args:
        leaf: A signer's.
        between: What came with it.
        authorities: Where a path may end.
    """
    path: list[Certificate] = []
    current, waiting = leaf, list(between)
    while True:
        anchor = next((each for each in authorities if _issued(current, each, len(path))), None)
        issuer = anchor or next((each for each in waiting if _issued(current, each, len(path))), None)
        if issuer is None:
            return []
        path.append(issuer)
        if anchor is not None:
            return path
        waiting.remove(issuer)
        current = issuer


def _issued(certificate: Certificate, issuer: Certificate, below: int) -> bool:
    """Whether an authority, which may have `below` more beneath it, has signed a certificate."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509.oid import ExtensionOID

    known = (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE)
    try:
        certificate.verify_directly_issued_by(issuer)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = [e.value.key_cert_sign for e in issuer.extensions if isinstance(e.value, x509.KeyUsage)]
        strange = [e for each in (certificate, issuer) for e in each.extensions if e.critical and e.oid not in known]
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    deep = constraints.path_length is None or constraints.path_length >= below
    return bool(constraints.ca and all(usage) and deep and not strange)
