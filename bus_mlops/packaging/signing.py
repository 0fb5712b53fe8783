"""Signing packages and decisions with a private key or a certificate, offline, in the form of OpenSSF model-signing.

The key is named by `BUS_MLOPS_SIGNING_KEY`, else by `promotion.signing_key`; the certificate, if there is one, with
the authorities between it and the one that consumers trust after it, by `BUS_MLOPS_SIGNING_CERTIFICATE`, else by
`promotion.signing_certificate`. A key's passphrase is read from `BUS_MLOPS_SIGNING_PASSPHRASE`.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.config.promotion import PromotionConfig
from bus_mlops.consumer.package_files import open_package
from bus_mlops.consumer.package_format import SIGNATURE_FILE, SUMS_FILE
from bus_mlops.consumer.public_keys import fingerprint_of, require_usable
from bus_mlops.consumer.signatures import (
    BUNDLE_TYPE,
    PAYLOAD_TYPE,
    authentication_code,
    decision_statement,
    hash_for,
    package_statement,
)
from bus_mlops.errors import ConfigError, UntrustedError
from bus_mlops.files import replacing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

KEY, CERTIFICATE = "BUS_MLOPS_SIGNING_KEY", "BUS_MLOPS_SIGNING_CERTIFICATE"
PASSPHRASE = "BUS_MLOPS_SIGNING_PASSPHRASE"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Signer:
    """A private key, and the certificates that say whose it is, its own first; none for a bare key."""

    key: EllipticCurvePrivateKey
    certificates: tuple[Certificate, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Of the public key: what consumers compare."""
        return fingerprint_of(self.key.public_key())

    def sign(self, statement: Mapping[str, Any]) -> bytes:
        """A sigstore bundle over a statement, JSON."""
        from cryptography.hazmat.primitives.asymmetric import ec

        payload = json.dumps(statement).encode()
        signature = self.key.sign(authentication_code(payload), ec.ECDSA(hash_for(self.key.key_size)))
        envelope = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        }
        material = {**self._material(), "tlogEntries": []}
        return json.dumps(
            {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
        ).encode()

    def sign_decision(self, decision: Mapping[str, str], record: str) -> str:
        """The value of the tag that signs a decision in the record of that id."""
        return self.sign(decision_statement(decision, record)).decode()

    def _material(self) -> dict[str, Any]:
        from cryptography.hazmat.primitives.serialization import Encoding

        if not self.certificates:
            return {"publicKey": {"hint": self.fingerprint}}
        chain = [{"rawBytes": base64.b64encode(each.public_bytes(Encoding.DER)).decode()} for each in self.certificates]
        return {"x509CertificateChain": {"certificates": chain}}


def sign_package(folder: Path, signer: Signer) -> Path:
    """Write `model.sig` over every file of a finished package, which is checked first.

    Raises:
        DamagedPackageError: A file is not as SHA256SUMS lists it.
    """
    opened = open_package(folder, keep=False)
    statement = package_statement(opened.package.name, {**opened.sums, SUMS_FILE: opened.digest})
    with replacing(folder / SIGNATURE_FILE) as temporary:
        temporary.write_bytes(signer.sign(statement))
    return folder / SIGNATURE_FILE


def configured_signer(promotion: PromotionConfig) -> Signer | None:
    """Who signs what is promoted; None where nobody is named.

    Raises:
        ConfigError: The key cannot be read, or lies in the project.
    """
    key = os.environ.get(KEY) or promotion.signing_key
    certificate = os.environ.get(CERTIFICATE) or promotion.signing_certificate
    if not key:
        if certificate:
            raise ConfigError(
                f"a certificate to sign with ({certificate}) but no key: set {KEY}, or promotion.signing_key."
            )
        return None
    return read_signer(Path(key).expanduser(), Path(certificate).expanduser() if certificate else None)


def read_signer(key: Path, certificate: Path | None = None) -> Signer:
    """A private key in PEM, and the certificates of a file, the key's own first.

    Raises:
        ConfigError: They cannot be read, do not belong together, or lie where others get them.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    _require_kept_apart(key)
    passphrase = os.environ.get(PASSPHRASE)
    try:
        private: Any = load_pem_private_key(key.read_bytes(), passphrase.encode() if passphrase else None)
        found = x509.load_pem_x509_certificates(certificate.read_bytes()) if certificate else []
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        raise ConfigError(
            f"the signing key {key}{f' with {certificate}' if certificate else ''} cannot be read: {reason}. It is a "
            f"private key in PEM; {PASSPHRASE} holds its passphrase, if it has one and only then. `bus-mlops keys new` "
            "makes one."
        ) from None
    try:
        require_usable(private, str(key))
    except UntrustedError as error:
        raise ConfigError(str(error)) from None
    signer = Signer(private, tuple(found))
    if found and found[0].public_key() != private.public_key():
        raise ConfigError(f"{certificate} does not begin with the certificate of the key {key}: put it first.")
    return signer


def make_key(folder: Path, name: str) -> tuple[Path, Path, str]:
    """Write a new key pair: `NAME.key`, readable by its owner alone, and `NAME.pub`.

    It is encrypted with the passphrase of `BUS_MLOPS_SIGNING_PASSPHRASE`, if that is set.

    Returns:
        Private key, public key, and the latter's fingerprint.

    Raises:
        ConfigError: One is there already, or the folder is a project's.
    """
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    _require_kept_apart(private)
    for path in (private, public):
        if path.exists():
            raise ConfigError(f"{path} is there already, and a key that is replaced is lost. Name another one.")
    key = ec.generate_private_key(ec.SECP256R1())
    passphrase = os.environ.get(PASSPHRASE, "").encode()
    locked = pem.BestAvailableEncryption(passphrase) if passphrase else pem.NoEncryption()
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, locked))
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return private, public, fingerprint_of(key.public_key())


def _require_kept_apart(key: Path) -> None:
    """A private key belongs neither to a repository nor to everybody."""
    place = key.expanduser().resolve()
    repository = next(
        (each for each in place.parents if (each / ".git").exists() or (each / "params.yaml").exists()), None
    )
    if repository is not None:
        raise ConfigError(
            f"the signing key {key} lies in the project {repository}, of which others get copies. Keep it elsewhere, "
            f"and name it by {KEY} or promotion.signing_key."
        )
    if place.is_file() and place.stat().st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise ConfigError(f"the signing key {key} can be read or replaced by others: chmod 600 {key}.")
