"""A public key: its fingerprint, its kind, and whether OpenSSF model-signing takes it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from bus_mlops.errors import UntrustedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

CURVES = ("secp256r1", "secp384r1", "secp521r1")


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
