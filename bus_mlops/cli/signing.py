"""`bus-mlops sign` and `bus-mlops keys`: who made a model, and whom to trust. Heavy imports happen inside."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from bus_mlops.cli.consumer import Store

Key = Annotated[
    Path | None,
    typer.Option("--key", help="Private key (PEM). Default: BUS_MLOPS_SIGNING_KEY, else promotion.signing_key."),
]

keys_app = typer.Typer(help="Keys that sign models, and those that are trusted here.", no_args_is_help=True)


def sign(
    package: Annotated[str, typer.Argument(help="The folder of a package, or a version in a store of this machine.")],
    key: Key = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Of the key, then those up to an authority (PEM).")
    ] = None,
    tracking_uri: Store = None,
) -> None:
    """Sign a package, or sign it anew with another key.

    Promotion signs by itself where promotion.signing_key names a key. This is for packages of before, and for new keys:
    of a version in a store the decisions are signed anew too, if a key that is trusted here has signed them.

    The passphrase of the key is read from BUS_MLOPS_SIGNING_PASSPHRASE.
    """
    from bus_mlops.consumer.resolve import resolve, version_uri
    from bus_mlops.errors import ConfigError, RegistryError
    from bus_mlops.packaging.signing import KEY, configured_signer, read_signer, sign_package

    if key is None:
        from bus_mlops.config.promotion import PromotionConfig
        from bus_mlops.paths import PARAMS
        from bus_mlops.project import load_config

        signer = configured_signer(load_config().promotion if PARAMS.exists() else PromotionConfig())
        if signer is None:
            raise ConfigError(f"no key to sign with: give --key, or set {KEY}. `bus-mlops keys new` makes one.")
    else:
        signer = read_signer(key, certificate)
    from bus_mlops.promotion.signatures import located, sign_decisions_anew

    uri = version_uri(package, tracking_uri)
    if uri.startswith("models:"):
        folder, client, version = located(uri, tracking_uri)
        sign_package(folder, signer)
        done = sign_decisions_anew(client, version, signer)
        print(f"{version.name} version {version.version}: {done} decisions signed anew")
    else:
        location = resolve(uri, tracking_uri)
        if location.is_cached:
            raise RegistryError(f"{uri} is a copy of what lies elsewhere: sign that, or export it and sign the folder.")
        folder = location.folder
        sign_package(folder, signer)
    print(f"{folder} is signed by sha256:{signer.fingerprint}")


@keys_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; names its files.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where to put it: outside of every project.")],
) -> None:
    """Make a key pair: NAME.key signs and stays with you, NAME.pub goes to those who use your models.

    With BUS_MLOPS_SIGNING_PASSPHRASE the private key is encrypted.
    """
    from bus_mlops.packaging.signing import make_key

    private, public, fingerprint = make_key(folder.expanduser(), name)
    print(f"private key: {private} (keep it; export BUS_MLOPS_SIGNING_KEY={shlex.quote(str(private))})")
    print(f"public key:  {public} (give it away, and tell this by another way:)")
    print(f"fingerprint: sha256:{fingerprint}")


@keys_app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")] = False,
) -> None:
    """Show whose signatures count on this machine."""
    from bus_mlops.consumer.certificates import certificate_fingerprint
    from bus_mlops.consumer.trusted_keys import VARIABLE, trusted_keys

    keys = trusted_keys()
    holders = {} if keys is None else {mark: holder.name for mark, holder in keys.holders.items()}
    authorities = (
        {} if keys is None else {certificate_fingerprint(c): c.subject.rfc4514_string() for c in keys.authorities}
    )
    revoked = [] if keys is None else sorted(keys.revoked)
    if as_json:
        where = None if keys is None else str(keys.where)
        print(json.dumps({"where": where, "keys": holders, "authorities": authorities, "revoked": revoked}, indent=2))
        return
    if keys is None:
        print(
            f"no keys are trusted: models of anybody are used, and called unsigned or unchecked. {VARIABLE} names keys."
        )
        return
    print(f"trusted by {keys.where}:")
    for kind, found in (("key", holders), ("authority", authorities), ("revoked", dict.fromkeys(revoked, ""))):
        for mark, who in found.items():
            print(f"{kind:9}  sha256:{mark}  {who}".rstrip())
