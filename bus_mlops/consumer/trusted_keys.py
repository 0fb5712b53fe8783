"""Whose signatures a consumer believes: public keys and certificates in a file or a folder.

`BUS_MLOPS_TRUSTED_KEYS` names it, else `trusted-keys` of the user's configuration, else of the machine's. Each file is
PEM: an ECDSA public key (P-256, P-384 or P-521, as OpenSSF model-signing takes them), or a certificate: of an
authority, whose certificates then count, or of a signer. `revoked.txt` in the folder takes single ones back: the
fingerprint of a key or a certificate, or the digest of a package, a line each.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.errors import UntrustedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate

VARIABLE = "BUS_MLOPS_TRUSTED_KEYS"
NAME = "trusted-keys"
REVOKED = "revoked.txt"
CURVES = ("secp256r1", "secp384r1", "secp521r1")
MAX_BYTES = 2**20
# Authorities between a signer and the one that is trusted.
MAX_CHAIN = 5
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True)
class Holder:
    """A key that is trusted by itself, or the certificate that names it, and the file that says so."""

    key: EllipticCurvePublicKey
    name: str
    certificate: Certificate | None = None


@dataclass(frozen=True)
class TrustedKeys:
    """What a consumer trusts.

    Attributes:
        where: The file or folder that says so.
        holders: By fingerprint.
        authorities: Certificates whose signers are trusted.
        revoked: Fingerprints and digests that are not, whatever else is said.
    """

    where: Path
    holders: dict[str, Holder] = field(default_factory=dict)
    authorities: tuple[Certificate, ...] = ()
    revoked: frozenset[str] = frozenset()

    @property
    def names(self) -> str:
        """Fingerprints and files of all that is trusted, for messages."""
        known = [f"{short(key)} ({holder.name})" for key, holder in self.holders.items()]
        known += [f"whoever {each.subject.rfc4514_string()} certifies" for each in self.authorities]
        return f"{', '.join(known) or 'nobody'}, by {self.where}"

    def require_kept(self, what: str, *digests: str) -> None:
        """Raise an UntrustedError if one of these fingerprints or digests was taken back."""
        for digest in digests:
            if digest in self.revoked:
                raise UntrustedError(
                    f"{what}: {short(digest)} is revoked by {self.where / REVOKED}. Do not use it; ask those who "
                    "publish the model for a version that they sign with another key."
                )

    def holder(self, fingerprint: str, what: str) -> Holder:
        """The key of that fingerprint.

        Raises:
            UntrustedError: It is not trusted, was revoked, or its certificate is of another time.
        """
        self.require_kept(what, fingerprint)
        found = self.holders.get(fingerprint)
        if found is None:
            raise UntrustedError(
                f"{what} is signed by the key {short(fingerprint)}, which is not trusted here. Trusted: {self.names}. "
                "Do not use it, unless its makers tell you that fingerprint themselves: then put their key there."
            )
        if found.certificate is not None:
            _require_in_time(found.certificate, what)
        return found

    def certified(self, chain: list[Certificate], what: str) -> Holder:
        """The signer whose certificate comes first in a chain that ends at an authority, or is trusted itself.

        A bundle bears no time that could be believed: what counts is whether the certificates hold today.

        Raises:
            UntrustedError: It does not end there, or one of them does not hold.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        leaf = chain[0]
        key = leaf.public_key()
        mark = certificate_fingerprint(leaf)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise UntrustedError(
                f"{what} is signed by a certificate of a {kind_of(key)}, which model-signing does not use."
            )
        self.require_kept(what, mark, fingerprint_of(key))
        _require_in_time(leaf, what)
        _require_signer(leaf, what)
        name = f"{leaf.subject.rfc4514_string()}, certificate {short(mark)}"
        if fingerprint_of(key) in self.holders:
            return Holder(key, name, leaf)
        _require_path(leaf, chain[1 : MAX_CHAIN + 1], self, what)
        return Holder(key, name, leaf)


def trusted_keys() -> TrustedKeys | None:
    """Whom this consumer trusts; None where nobody is named.

    Raises:
        UntrustedError: Somebody is, but not so that it can be used: nothing is skipped.
    """
    named = os.environ.get(VARIABLE)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [Path(named)] if named else [config / "bus-mlops" / NAME, Path("/etc/bus-mlops") / NAME]
    where = next((each for each in places if each.exists()), None)
    if where is None and not named:
        return None
    return read_trusted(where or places[0])


def read_trusted(where: Path) -> TrustedKeys:
    """The keys of a file or a folder.

    Raises:
        UntrustedError: It is missing, holds none, or one that cannot be used; names the file.
    """
    require_cryptography()
    try:
        where.stat()
        files = sorted(each for each in where.iterdir() if not each.name.startswith(".")) if where.is_dir() else [where]
        contents = {each: _content(each) for each in files}
    except OSError as error:
        raise UntrustedError(
            f"the trusted keys at {where} cannot be read: {error.strerror}. {VARIABLE} names a file or a folder of "
            "public keys and certificates (PEM); `bus-mlops keys` shows what is there."
        ) from None
    revoked = [_revoked(each, contents[each]) for each in files if each.name == REVOKED]
    holders: dict[str, Holder] = {}
    authorities = []
    for file in (each for each in files if each.name != REVOKED):
        for each in _read(file, contents[file]):
            if isinstance(each, Holder):
                holders[fingerprint_of(each.key)] = each
            else:
                authorities.append(each)
    if not holders and not authorities:
        raise UntrustedError(
            f"{where} holds no public key, so nothing could be trusted. Put the keys of those whose models you use "
            f"there (PEM), or unset {VARIABLE}."
        )
    return TrustedKeys(where, holders, tuple(authorities), frozenset().union(*revoked))


def require_cryptography() -> None:
    """Raise an UntrustedError that says how to install it, where the library that checks signatures is missing."""
    try:
        import cryptography.x509  # noqa: F401
    except ImportError:
        raise UntrustedError(
            "keys are trusted here, and what checks signatures is missing: pip install 'cryptography>=45'."
        ) from None


def fingerprint_of(key: EllipticCurvePublicKey) -> str:
    """64 hexadecimal digits: the sha256 of the public key's PEM file, as model-signing and `sha256sum` have it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def certificate_fingerprint(certificate: Certificate) -> str:
    """64 hexadecimal digits: the sha256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return certificate.fingerprint(SHA256()).hex()


def short(fingerprint: str) -> str:
    """As it is shown: enough to compare over a telephone."""
    return f"sha256:{fingerprint[:16]}"


def kind_of(key: Any) -> str:
    """What a key is, in words."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return f"key on the curve {key.curve.name}"
    return f"{type(key).__name__.lstrip('_').replace('PublicKey', '').replace('PrivateKey', '')} key"


def require_usable(key: Any, what: str) -> None:
    """Raise an UntrustedError unless model-signing takes such a key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    fits = isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) and key.curve.name in CURVES
    if not fits:
        raise UntrustedError(
            f"{what} is a {kind_of(key)}: model-signing takes ECDSA keys of P-256, P-384 or P-521. `bus-mlops keys "
            "new` makes one."
        )


def _content(file: Path) -> bytes:
    if not file.is_file():
        raise UntrustedError(f"{file} is no regular file. Trusted keys are files of PEM; take it out.")
    if file.stat().st_size > MAX_BYTES:
        raise UntrustedError(f"{file} is larger than any key ({MAX_BYTES} bytes). Take it out.")
    return file.read_bytes()


def _read(file: Path, content: bytes) -> list[Holder | Certificate]:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found: list[Holder | Certificate] = []
    certificate: Certificate | None
    for block in _PEM.finditer(content):
        label = block[1].decode()
        if "PRIVATE" in label:
            raise UntrustedError(
                f"{file} holds a private key: whoever reads it can sign in its owner's name. Take it out, and trust "
                "its public key (`openssl pkey -in KEY -pubout`)."
            )
        try:
            if label == "CERTIFICATE":
                certificate = x509.load_pem_x509_certificate(block[0])
                if _is_authority(certificate):
                    found.append(certificate)
                    continue
                key: Any = certificate.public_key()
            else:
                certificate, key = None, load_pem_public_key(block[0] + b"\n")
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UntrustedError(
                f"{file} cannot be read as a public key or a certificate: {error}. Take it out."
            ) from None
        require_usable(key, str(file))
        found.append(Holder(key, file.name, certificate))
    if not found:
        raise UntrustedError(f"{file} holds no PEM block: neither a public key nor a certificate. Take it out.")
    return found


def _revoked(file: Path, content: bytes) -> set[str]:
    found = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip().lower().replace(":", "").removeprefix("sha256")
        if text and not _DIGEST.fullmatch(text):
            raise UntrustedError(
                f"{file}:{number}: {line[:100]!r} is no sha256 of 64 digits: nothing was revoked by it."
            )
        found |= {text} - {""}
    return found


def _is_authority(certificate: Certificate) -> bool:
    from cryptography import x509

    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _require_in_time(certificate: Certificate, what: str) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= datetime.now(UTC) <= end:
        raise UntrustedError(
            f"{what}: the certificate of {certificate.subject.rfc4514_string()} "
            f"({short(certificate_fingerprint(certificate))}) holds from {start:%Y-%m-%d} to {end:%Y-%m-%d} only. Its "
            "makers renew it and sign the same package again (`bus-mlops sign`)."
        )


def _require_signer(leaf: Certificate, what: str) -> None:
    """As model-signing asks of a signer's certificate: for digital signatures, or for signing code."""
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


def _require_path(leaf: Certificate, between: list[Certificate], keys: TrustedKeys, what: str) -> None:
    """Follow a chain, certificate by certificate, to an authority that is trusted."""
    current, waiting, below = leaf, list(between), 0
    while True:
        anchor = next((each for each in keys.authorities if _issued(current, each, below)), None)
        issuer = anchor or next((each for each in waiting if _issued(current, each, below)), None)
        if issuer is None:
            raise UntrustedError(
                f"{what} is signed by {leaf.subject.rfc4514_string()} ({short(certificate_fingerprint(leaf))}), whom "
                f"no authority certifies that is trusted here. Trusted: {keys.names}. Do not use it, unless its makers "
                "tell you that fingerprint themselves: then put their authority's certificate there."
            )
        keys.require_kept(what, certificate_fingerprint(issuer))
        _require_in_time(issuer, what)
        if anchor is not None:
            return
        waiting.remove(issuer)
        current, below = issuer, below + 1


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
