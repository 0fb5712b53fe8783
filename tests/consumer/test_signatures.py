"""Who made a package: signatures that model-signing and our own client agree on, and those that neither may believe."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from PIL import Image
from signing_keys import certify, model_signing, write_certificates, write_key
from tiny_package import speckle
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.consumer import export as bundle
from bus_mlops.consumer import find as finding
from bus_mlops.consumer.certificates import certificate_fingerprint
from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.package_files import open_package, write_sums
from bus_mlops.consumer.signatures import package_statement
from bus_mlops.consumer.trusted_keys import read_trusted, trusted_keys
from bus_mlops.errors import ConfigError, DamagedPackageError, UntrustedError
from bus_mlops.packaging.signing import PASSPHRASE, Signer, make_key, read_signer, sign_package

CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BUS_MLOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BUS_MLOPS_TRUSTED_KEYS", raising=False)
    monkeypatch.setattr(finding, "_SAID", set())


@pytest.fixture
def copy(package_folder, tmp_path) -> Path:
    return Path(shutil.copytree(package_folder, tmp_path / "copy"))


@pytest.fixture
def key(tmp_path) -> Path:
    return write_key(tmp_path / "keys", "maker")


@pytest.fixture
def trust(tmp_path, monkeypatch) -> Path:
    """An empty folder of trusted keys."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    monkeypatch.setenv("BUS_MLOPS_TRUSTED_KEYS", str(folder))
    return folder


def trusting(trust: Path, *keys: Path) -> None:
    for each in keys:
        shutil.copy(each.with_suffix(".pub"), trust)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_model_signing_checks_ours_and_we_check_its(curve, copy, trust, tmp_path):
    key = write_key(tmp_path / "keys", "maker", ec.generate_private_key(curve))
    trusting(trust, key)
    signature = sign_package(copy, read_signer(key))
    theirs = ("--signature", signature, "--public_key", key.with_suffix(".pub"))
    checked = model_signing("verify", "key", copy, *theirs)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    model = load_model(copy)
    assert (model.standing.signed, "maker.pub" in repr(model)) == ("trusted", True)
    bundle.export(str(copy), str(tmp_path / "exported"))  # whose registry.json is of no package
    assert model_signing("verify", "key", tmp_path / "exported", *theirs).returncode == 0
    signature.unlink()
    signed = model_signing("sign", "key", copy, "--signature", signature, "--private_key", key)
    assert signed.returncode == 0, signed.stderr + signed.stdout
    assert load_model(copy).standing.signed == "trusted"
    (copy / "MODEL_CARD.md").write_text("changed")
    write_sums(copy)
    assert model_signing("verify", "key", copy, *theirs).returncode != 0
    with pytest.raises(UntrustedError, match=r"MODEL_CARD.md is not as it was signed \(and 1 more\)"):
        load_model(copy)


def test_certificates_are_followed_to_an_authority_by_both(copy, trust, tmp_path):
    root, middle, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    anchor = certify("authority", root, authority=True)
    between = certify("between", middle, (anchor, root), authority=True)
    own = certify("maker", leaf, (between, middle))
    key = write_key(tmp_path / "keys", "maker", leaf)
    chain = write_certificates(tmp_path / "keys/chain.crt", own, between)
    signature = sign_package(copy, read_signer(key, chain))
    ca = write_certificates(trust / "authority.crt", anchor)
    said = repr(load_model(copy))
    assert "CN=maker" in said
    checked = model_signing("verify", "certificate", copy, "--signature", signature, "--certificate_chain", ca)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    signature.unlink()
    options = ("--private_key", key, "--signing_certificate", write_certificates(tmp_path / "own.crt", own))
    middles = ("--certificate_chain", write_certificates(tmp_path / "between.crt", between))
    signed = model_signing("sign", "certificate", copy, "--signature", signature, *options, *middles)
    assert signed.returncode == 0, signed.stderr + signed.stdout
    assert load_model(copy).standing.signed == "trusted"
    (trust / "revoked.txt").write_text(f"{certificate_fingerprint(own)} # stolen\n")
    with pytest.raises(UntrustedError, match="is revoked by"):
        load_model(copy)


@pytest.mark.parametrize("case", ["expired", "not yet", "no signer", "no authority", "stranger", "leaf as authority"])
def test_certificates_that_prove_nothing_are_refused(case, copy, trust, tmp_path):
    root, middle, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    anchor = certify("authority", root, authority=True)
    issuer, days = (anchor, root), {"expired": (-3, -1), "not yet": (1, 3)}.get(case, (-1, 1))
    chain = []
    if case == "leaf as authority":
        between = certify("customer", middle, (anchor, root))
        issuer, chain = (between, middle), [between]
    if case == "stranger":
        issuer = (certify("authority", middle, authority=True), middle)  # of the same name
    own = certify("maker", leaf, issuer, signs=case != "no signer", days=days)
    if case == "no authority":
        own = certify("maker", leaf)
    sign_package(copy, Signer(leaf, (own, *chain)))
    write_certificates(trust / "authority.crt", anchor)
    said = {"expired": "holds from", "not yet": "holds from", "no signer": "not for signatures"}.get(
        case, "no authority"
    )
    with pytest.raises(UntrustedError, match=said):
        load_model(copy)


def rewritten(change):
    """Change the bundle's JSON, with what is signed as values."""

    def apply(folder: Path, signer: Signer, other: Signer) -> None:
        sign_package(folder, signer)
        values = json.loads((folder / "model.sig").read_text())
        change(values)
        (folder / "model.sig").write_text(json.dumps(values))

    return apply


def payload(change):
    def apply(values) -> None:
        told = json.loads(base64.b64decode(values["dsseEnvelope"]["payload"]))
        change(told)
        values["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(told).encode()).decode()

    return apply


def fewer(folder: Path, signer: Signer, other: Signer) -> None:
    opened = open_package(folder, keep=False)
    (folder / "model.sig").write_bytes(
        signer.sign(package_statement("x", {"package.json": opened.sums["package.json"]}))
    )


def others(folder: Path, signer: Signer, other: Signer) -> None:
    """The signature of another package of the same maker."""
    card = (folder / "MODEL_CARD.md").read_text()
    (folder / "MODEL_CARD.md").write_text("another")
    write_sums(folder)
    sign_package(folder, signer)
    (folder / "MODEL_CARD.md").write_text(card)
    write_sums(folder)


def decided(folder: Path, signer: Signer, other: Signer) -> None:
    (folder / "model.sig").write_text(signer.sign_decision({"model": "tiny", "version": "1"}, "record"))


def claimed(folder: Path, signer: Signer, other: Signer) -> None:
    """Signed by another who names the trusted key."""
    sign_package(folder, other)
    values = json.loads((folder / "model.sig").read_text())
    values["verificationMaterial"]["publicKey"]["hint"] = signer.fingerprint
    (folder / "model.sig").write_text(json.dumps(values))


def linked(folder: Path, signer: Signer, other: Signer) -> None:
    sign_package(folder, signer).rename(folder.parent / "elsewhere.sig")
    (folder / "model.sig").symlink_to(folder.parent / "elsewhere.sig")


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (lambda folder, signer, other: None, "is not signed"),
        (lambda folder, signer, other: sign_package(folder, other), "which is not trusted here. Trusted: sha256:"),
        (claimed, "not one of the key"),
        (others, "MODEL_CARD.md is not as it was signed"),
        (fewer, "MODEL_CARD.md is not among the files that were signed"),
        (decided, "is no list of a package's files"),
        (rewritten(payload(lambda told: told["predicate"]["resources"].pop())), "it was changed"),
        (rewritten(lambda values: values.update(mediaType="text/plain")), "none of model-signing's"),
        (rewritten(lambda values: values["dsseEnvelope"].update(signatures=[])), "none of model-signing's"),
        (rewritten(lambda values: values["dsseEnvelope"].update(payloadType="text/plain")), "none of model-signing's"),
        (rewritten(lambda values: values["verificationMaterial"].pop("publicKey")), "does not say which key"),
        (lambda folder, signer, other: (folder / "model.sig").write_text("{"), "none of model-signing's"),
    ],
)
def test_attacks_on_a_signature_are_refused(attack, said, copy, trust, key, tmp_path):
    trusting(trust, key)
    signer = read_signer(key)
    attack(copy, signer, read_signer(write_key(tmp_path / "keys", "stranger")))
    with pytest.raises(UntrustedError, match=said) as caught:
        load_model(copy)
    assert "tiny-phantom" in str(caught.value)
    with pytest.raises(UntrustedError):
        bundle.export(str(copy), str(tmp_path / "exported"))
    assert not (tmp_path / "exported").exists()


def test_a_signature_by_way_of_a_link_and_a_file_that_nobody_signed_are_refused(copy, trust, key):
    trusting(trust, key)
    linked(copy, read_signer(key), read_signer(key))
    with pytest.raises(DamagedPackageError, match="no links"):
        load_model(copy)
    (copy / "model.sig").unlink()
    sign_package(copy, read_signer(key))
    (copy / "extra.txt").write_text("more")
    with pytest.raises(DamagedPackageError, match="not listed"):
        load_model(copy)
    write_sums(copy)
    with pytest.raises(
        UntrustedError, match=r"extra.txt is not among the files that were signed|is not as it was signed"
    ):
        load_model(copy)


def test_what_answers_are_the_bytes_that_were_checked(copy, trust, key, scans):
    trusting(trust, key)
    sign_package(copy, read_signer(key))
    model = load_model(copy)
    before = open_package(copy).contents["members/fold_1.onnx"]
    for each in copy.rglob("*.onnx"):
        each.write_bytes(b"exchanged after the check")
    assert model.opened.contents["members/fold_1.onnx"] == before
    assert model.predict(scans[:1])[0].probability is not None


def test_without_keys_it_says_so_once_and_with_them_revoked_ones_do_not_count(copy, tmp_path, key, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING, "bus_mlops"):
        told = [load_model(copy).standing for _ in range(3)]
    assert [each.signed for each in told] == ["unsigned"] * 3
    assert "UNSIGNED" in str(told[0])
    assert sum("UNSIGNED" in record.message for record in caplog.records) == 1
    sign_package(copy, read_signer(key))
    assert "SIGNED, BUT NOT CHECKED" in str(load_model(copy).standing)
    standard = tmp_path / "config/bus-mlops/trusted-keys"
    standard.mkdir(parents=True)
    trusting(standard, key)
    assert load_model(copy).standing.signed == "trusted"
    (standard / "revoked.txt").write_text(f"# a bad package\nsha256:{open_package(copy).digest}\n")
    with pytest.raises(UntrustedError, match="is revoked by"):
        load_model(copy)
    (standard / "revoked.txt").write_text(read_signer(key).fingerprint)
    with pytest.raises(UntrustedError, match="is revoked by"):
        load_model(copy)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda trust: None, "holds no public key"),
        (lambda trust: trust.rmdir(), "cannot be read"),
        (lambda trust: (trust / "note.txt").write_text("hello"), "holds no PEM block"),
        (lambda trust: write_key(trust, "own"), "holds a private key"),
        (lambda trust: only_public(trust, ed25519.Ed25519PrivateKey.generate()), "Ed25519 key: model-signing takes"),
        (lambda trust: only_public(trust, rsa.generate_private_key(65537, 2048)), "RSA key: model-signing takes"),
        (lambda trust: only_public(trust, ec.generate_private_key(ec.SECP256K1())), "secp256k1: model-signing takes"),
        (lambda trust: (trust / "revoked.txt").write_text("abc"), "no sha256 of 64 digits"),
        (
            lambda trust: (trust / "a.pub").write_text("-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----"),
            "cannot be read as a public key",
        ),
    ],
)
def test_keys_that_cannot_be_used_are_an_error_and_never_skipped(write, said, trust, copy):
    write(trust)
    with pytest.raises(UntrustedError, match=said):
        load_model(copy)


def only_public(folder: Path, key=None) -> None:
    write_key(folder, "a", key).unlink()


def commands(package: Path, scan: Path, folder: Path) -> dict[str, list[str | Path]]:
    """Arguments of each command that uses a model."""
    cases = folder / "cases"
    cases.mkdir(exist_ok=True)
    lines = [f"{number}.png,{label},p{number}" for number, label in enumerate(("benign", "malignant"))]
    for number in range(len(lines)):
        Image.fromarray(speckle(40, 50, number)).save(cases / f"{number}.png")
    (cases / "cases.csv").write_text("\n".join(["file,label,patient", *lines]))
    return {
        "predict": ["--model", package, scan],
        "accept": [package, cases],
        "serve": [package],
        "watch": ["--dicomweb", "http://127.0.0.1:9/dicom-web", "--model", package],
        "export": [package, folder / "out"],
        "pull": [package],
    }


@pytest.mark.parametrize("who", ["nobody", "a stranger"])
@pytest.mark.parametrize("command", ["predict", "accept", "serve", "watch", "export", "pull"])
def test_no_command_takes_what_no_trusted_key_has_signed(command, who, copy, trust, key, scans, tmp_path):
    trusting(trust, key)
    if who == "a stranger":
        sign_package(copy, read_signer(write_key(tmp_path / "keys", "stranger")))
    arguments = commands(copy, scans[0], tmp_path)[command]
    with pytest.raises(UntrustedError, match="is not signed" if who == "nobody" else "which is not trusted here"):
        CliRunner().invoke(app, [command, *map(str, arguments)], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["predict", "serve", "export", "pull"])
def test_without_keys_every_command_says_that_nobody_is_known_to_have_made_it(
    command, copy, scans, tmp_path, monkeypatch
):
    monkeypatch.setattr("bus_mlops.serving.server.run", lambda *_: None)
    done = CliRunner().invoke(app, [command, *map(str, commands(copy, scans[0], tmp_path)[command])])
    assert done.exit_code == 0, done.output
    told = " ".join(done.stderr.split())
    assert f"tiny-phantom at {copy}: UNSIGNED: who made it is not known." in told
    assert told.count("UNSIGNED") == 1


def test_a_missing_library_is_an_error_that_says_what_to_install(trust, key, copy, monkeypatch):
    trusting(trust, key)
    monkeypatch.setitem(sys.modules, "cryptography.x509", None)
    with pytest.raises(UntrustedError, match="pip install 'cryptography"):
        load_model(copy)


def test_signing_keys_are_kept_from_projects_and_from_others(tmp_path, monkeypatch, copy):
    with monkeypatch.context() as patch:
        patch.setenv(PASSPHRASE, "secret")
        private, public, fingerprint = make_key(tmp_path / "keys", "maker")
        assert read_signer(private).fingerprint == fingerprint
        with pytest.raises(ConfigError, match="is there already"):
            make_key(tmp_path / "keys", "maker")
    assert (private.stat().st_mode & 0o777, b"ENCRYPTED" in private.read_bytes()) == (0o600, True)
    with pytest.raises(ConfigError, match=PASSPHRASE):
        read_signer(private)
    assert list(read_trusted(public).holders) == [fingerprint]
    open_to_all = write_key(tmp_path / "keys", "open")
    open_to_all.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_signer(open_to_all)
    with pytest.raises(ConfigError, match="Ed25519 key: model-signing takes"):
        read_signer(write_key(tmp_path / "keys", "edwards", ed25519.Ed25519PrivateKey.generate()))
    (tmp_path / "project").mkdir()
    (tmp_path / "project/params.yaml").touch()
    with pytest.raises(ConfigError, match="lies in the project"):
        read_signer(write_key(tmp_path / "project", "mine"))
    own, foreign = write_key(tmp_path / "keys", "own"), ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ConfigError, match="does not begin with the certificate"):
        read_signer(own, write_certificates(tmp_path / "keys/foreign.crt", certify("x", foreign)))
    assert trusted_keys() is None
