"""Signatures of packages and of decisions: sigstore bundles in the form of OpenSSF model-signing, checked offline.

`model.sig` beside a package's files holds a bundle whose statement names every file of it with its sha256, so that
model-signing's own command line checks it as well; a decision bears one as a tag of its record. What is compared with
the statement are the digests of the bytes that were read, never a file again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from bus_mlops.consumer.package_format import ORIGIN_FILE, SIGNATURE_FILE, SUMS_FILE
from bus_mlops.consumer.public_keys import fingerprint_of, short
from bus_mlops.consumer.trusted_keys import Holder, TrustedKeys
from bus_mlops.errors import UntrustedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PACKAGE_PREDICATE = "https://model_signing/signature/v1.0"
DECISION_PREDICATE = "https://bus-mlops.org/decision/v1"
# Tag of a record: the bundle over its decision.
SIGNATURE_TAG = "decision.signature"
# Tags of a record that its signature covers, the record's own id beside them.
DECISION_FIELDS = (
    "model", "version", "decision", "champion_before", "champion_after", "who", "when", "why", "candidate", "baseline",
    "commit", "package", "evidence", "former", "aliases", "registered", "look", "amended", "changes",
)  # fmt: skip
MAX_BUNDLE = 2**20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class _Key(_Part):
    hint: str = ""


class _Certificate(_Part):
    raw_bytes: str


class _Chain(_Part):
    certificates: list[_Certificate] = Field(min_length=1, max_length=10)


class _Material(_Part):
    public_key: _Key | None = None
    x509_certificate_chain: _Chain | None = Field(default=None, alias="x509CertificateChain")
    certificate: _Certificate | None = None


class _Signature(_Part):
    sig: str


class _Envelope(_Part):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: list[_Signature] = Field(min_length=1, max_length=1)


class _Bundle(_Part):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: _Envelope


@dataclass(frozen=True)
class Signed:
    """What was signed, by whom.

    Attributes:
        statement: The in-toto statement.
        signer: The key, and the file or the certificate that names it, for people.
    """

    statement: Mapping[str, Any]
    signer: str


def authentication_code(payload: bytes) -> bytes:
    """What is signed in place of a payload: DSSE's pre-authentication encoding."""
    return b" ".join(
        [b"DSSEv1", str(len(PAYLOAD_TYPE)).encode(), PAYLOAD_TYPE.encode(), str(len(payload)).encode(), payload]
    )


def hash_for(bits: int) -> HashAlgorithm:
    """The hash that goes with a curve of so many bits."""
    from cryptography.hazmat.primitives import hashes

    known: dict[int, HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    return known[bits]


def check_bundle(content: bytes, what: str, keys: TrustedKeys) -> Signed:
    """Check a bundle against trusted keys.

    Args:
        content: The bundle, JSON.
        what: It is said to sign, for messages.
        keys: Whose signatures count.

    Raises:
        UntrustedError: It is no bundle, was changed, or is by a key that is not trusted; names the key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if len(content) > MAX_BUNDLE:
            raise ValueError(f"it has {len(content)} bytes")
        bundle = _Bundle.model_validate_json(content, strict=True)
        payload = base64.b64decode(bundle.dsse_envelope.payload, validate=True)
        signature = base64.b64decode(bundle.dsse_envelope.signatures[0].sig, validate=True)
        holder = _holder(bundle.verification_material, what, keys)
    except (ValidationError, ValueError, binascii.Error) as error:
        raise UntrustedError(
            f"{what}: its signature is none of model-signing's ({_reason(error)}). Fetch it again; do not use it."
        ) from None
    mark = fingerprint_of(holder.key)
    try:
        holder.key.verify(signature, authentication_code(payload), ec.ECDSA(hash_for(holder.key.key_size)))
    except InvalidSignature:
        raise UntrustedError(
            f"{what}: its signature is not one of the key {short(mark)} that it names: it was changed. Do not use it; "
            "fetch it again."
        ) from None
    try:
        statement = json.loads(payload)
    except (ValueError, RecursionError):
        statement = None
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT_TYPE:
        raise UntrustedError(f"{what}: the key {short(mark)} has signed something that is no statement on a file.")
    return Signed(statement, f"{short(mark)} ({holder.name})")


def check_package(
    signature: bytes | None, sums: Mapping[str, str], digest: str, what: str, keys: TrustedKeys
) -> Signed:
    """Check that a trusted key has signed every file of a package.

    Args:
        signature: Content of its `model.sig`; None if it has none.
        sums: The sha256 of every file as it was read, but for SHA256SUMS.
        digest: That of SHA256SUMS.
        what: The package, for messages.
        keys: Whose signatures count.

    Raises:
        UntrustedError: It is not signed, by another, or the signature is over other files; says which.
    """
    keys.require_kept(what, digest)
    if signature is None:
        raise UntrustedError(
            f"{what} is not signed, and only what is signed by a key that is trusted here may be used. Trusted: "
            f"{keys.names}. Ask its makers for a signed one: they sign it with `bus-mlops sign`."
        )
    signed = check_bundle(signature, what, keys)
    covered = _covered(signed.statement, what, signed.signer)
    present = {**sums, SUMS_FILE: digest}
    covered.pop(ORIGIN_FILE, None)  # which says where a copy was made: nothing that is used
    problems = [f"{name} is not among the files that were signed" for name in sorted(present.keys() - covered.keys())]
    problems += [f"{name} was signed and is missing" for name in sorted(covered.keys() - present.keys())]
    problems += [
        f"{name} is not as it was signed"
        for name in sorted(present)
        if covered.get(name, present[name]) != present[name]
    ]
    if problems:
        raise UntrustedError(
            f"{what}: the signature of {signed.signer} is over another package: {problems[0]}"
            f"{f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''}. Do not use it; fetch it again."
        )
    return signed


def check_decision(tags: Mapping[str, str], record: str, keys: TrustedKeys) -> Signed:
    """Check that a trusted key has signed a record's decision as its tags tell it.

    Raises:
        UntrustedError: It is not signed, by another, or the signature is of another decision.
    """
    what = f"the decision {record[:12]} on {tags.get('model', '')} version {tags.get('version', '')}"
    content = tags.get(SIGNATURE_TAG)
    if not content:
        raise UntrustedError(
            f"{what} is not signed, so anybody may have written it. Trusted: {keys.names}. Whoever promotes sets "
            "promotion.signing_key and decides again."
        )
    signed = check_bundle(content.encode(), what, keys)
    if signed.statement != decision_statement(tags, record):
        raise UntrustedError(
            f"{what}: the signature of {signed.signer} is of another decision: the record was written, or changed, by "
            "somebody else. Do not believe it; `bus-mlops history` shows what is on record."
        )
    return signed


def decision_statement(decision: Mapping[str, str], record: str) -> dict[str, Any]:
    """The statement that a decision is signed as: all its fields, by their digest, and the record that it stands in."""
    told = json.dumps({name: decision.get(name, "") for name in DECISION_FIELDS}, sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": f"{decision.get('model', '')}/{decision.get('version', '')}", "digest": {"sha256": digest}}
        ],
        "predicateType": DECISION_PREDICATE,
        "predicate": {"record": record, "package": decision.get("package", "")},
    }


def package_statement(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The statement that a package is signed as, in the form of model-signing 1.0: every file with its sha256."""
    ordered = sorted(files)
    root = hashlib.sha256(b"".join(bytes.fromhex(files[each]) for each in ordered)).hexdigest()
    resources = [{"name": each, "algorithm": "sha256", "digest": files[each]} for each in ordered]
    serialization = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": [SIGNATURE_FILE, ORIGIN_FILE],
    }
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PACKAGE_PREDICATE,
        "predicate": {"serialization": serialization, "resources": resources},
    }


def authentic(decisions: Iterable[Mapping[str, str]], keys: TrustedKeys) -> list[Mapping[str, str]]:
    """Those decisions that a trusted key has signed, in the order of the times that it has signed."""
    found = []
    for each in decisions:
        try:
            check_decision(each, each.get("record", ""), keys)
        except UntrustedError:
            continue
        found.append(each)
    return sorted(found, key=lambda each: each.get("when", ""))


def _holder(material: _Material, what: str, keys: TrustedKeys) -> Holder:
    from cryptography import x509

    chain = material.x509_certificate_chain.certificates if material.x509_certificate_chain else []
    chain = chain or ([material.certificate] if material.certificate else [])
    if chain:
        raw = [base64.b64decode(each.raw_bytes, validate=True) for each in chain]
        return keys.certified([x509.load_der_x509_certificate(each) for each in raw], what)
    if material.public_key is None or not material.public_key.hint:
        raise ValueError("it does not say which key")
    return keys.holder(material.public_key.hint, what)


def _covered(statement: Mapping[str, Any], what: str, signer: str) -> dict[str, str]:
    """The sha256 of every file that a statement names."""
    predicate = statement.get("predicate")
    try:
        if statement["predicateType"] != PACKAGE_PREDICATE or not isinstance(predicate, dict):
            raise ValueError(f"it is of the kind {str(statement['predicateType'])[:100]!r}")
        kinds = (predicate["serialization"]["method"], predicate["serialization"]["hash_type"])
        if kinds != ("files", "sha256"):
            raise ValueError(f"files are signed as {kinds}, and not whole with sha256")
        resources = predicate["resources"]
        found = {each["name"]: each["digest"] for each in resources if each["algorithm"] == "sha256"}
        root = hashlib.sha256(b"".join(bytes.fromhex(each["digest"]) for each in resources)).hexdigest()
        if len(found) < len(resources) or [each["digest"]["sha256"] for each in statement["subject"]] != [root]:
            raise ValueError("its list of files contradicts itself")
    except (KeyError, TypeError, ValueError) as error:
        raise UntrustedError(
            f"{what}: what {signer} has signed is no list of a package's files ({_reason(error)}). Do not use it."
        ) from None
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'JSON'}: {first['msg']}"[:200]
    return (str(error) or type(error).__name__)[:200]
