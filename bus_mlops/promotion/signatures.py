"""Signing anew what a store holds already: when a key is exchanged, or was not there when a version was promoted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.consumer.resolve import default_tracking_uri, open_registry, resolve
from bus_mlops.consumer.signatures import SIGNATURE_TAG, check_decision
from bus_mlops.consumer.trusted_keys import trusted_keys
from bus_mlops.errors import RegistryError, UntrustedError
from bus_mlops.files import anchored
from bus_mlops.packaging.signing import Signer
from bus_mlops.promotion import records

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def located(uri: str, tracking_uri: str | None = None) -> tuple[Path, MlflowClient, ModelVersion]:
    """The folder of a registered package, which a store on this machine holds, its client and the version.

    Raises:
        RegistryError: The store holds its files elsewhere.
        UntrustedError: Keys are trusted here, and decisions signed by none of them made this version what it is called.
    """
    location = resolve(uri, tracking_uri)
    if location.is_cached or location.name is None or location.version is None:
        raise RegistryError(
            f"the files of {uri} do not lie on this machine, so they cannot be signed in their place. `bus-mlops "
            "export` copies them; sign that folder, or promote anew with promotion.signing_key."
        )
    client = open_registry(anchored(tracking_uri or default_tracking_uri()))
    return location.folder, client, client.get_model_version(location.name, location.version)


def sign_decisions_anew(client: MlflowClient, version: ModelVersion, signer: Signer) -> int:
    """Sign the decisions on a version once more, those only that a trusted key has signed: others may be forged.

    Returns:
        How many there were.
    """
    keys, done = trusted_keys(), 0
    for decision in records.decisions(client, version.name):
        tags = client.get_run(decision.record).data.tags
        if keys is None or decision.version != str(version.version):
            continue
        try:
            check_decision(tags, decision.record, keys)
        except UntrustedError:
            continue
        client.set_tag(decision.record, SIGNATURE_TAG, signer.sign_decision(tags, decision.record))
        done += 1
    return done
