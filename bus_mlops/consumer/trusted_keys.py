"""Whose signatures a consumer believes: public keys and certificates in a file or a folder.

`BUS_MLOPS_TRUSTED_KEYS` names it, else `trusted-keys` of the user's configuration, else of the machine's. Each file is
PEM: an ECDSA public key (P-256, P-384 or P-521, as OpenSSF model-signing takes them), or a certificate: of an
authority, whose certificates then count, or of a signer. `revoked.txt` in the folder takes single ones back: the
fingerprint of a key or a certificate, or the digest of a package, a line each.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.consumer.certificates import (
    certificate_fingerprint,
    is_authority,
    path_to_authority,
    require_in_time,
    require_signer,
)
from bus_mlops.consumer.public_keys import fingerprint_of, kind_of, require_cryptography, require_usable, short
from bus_mlops.errors import UntrustedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate

VARIABLE = "BUS_MLOPS_TRUSTED_KEYS"
NAME = "trusted-keys"
REVOKED = "revoked.txt"
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
            require_in_time(found.certificate, what)
        return found

    def certified(self, chain: list[Certificate], what: str) -> Holder:
        """The signer whose certificate comes first in a chain that ends at an authority, or is trusted itself.

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
        require_in_time(leaf, what)
        require_signer(leaf, what)
        name = f"{leaf.subject.rfc4514_string()}, certificate {short(mark)}"
        if fingerprint_of(key) in self.holders:
            return Holder(key, name, leaf)
        path = path_to_authority(leaf, chain[1 : MAX_CHAIN + 1], self.authorities)
        if not path:
            raise UntrustedError(
                f"{what} is signed by {leaf.subject.rfc4514_string()} ({short(mark)}), whom no authority certifies "
                f"that is trusted here. Trusted: {self.names}. Do not use it, unless its makers tell you that "
                "fingerprint themselves: then put their authority's certificate there."
            )
        for issuer in path:
            self.require_kept(what, certificate_fingerprint(issuer))
            require_in_time(issuer, what)
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
            "public keys and certificates (PEM); `bus-mlops keys list` shows what is there."
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
                if is_authority(certificate):
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
