"""Rollback: giving the alias `champion` back to a version that had it, with a reason, on the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_mlops.config import TrackingConfig
from bus_mlops.consumer.package_format import DIGEST_TAG
from bus_mlops.errors import PromotionConflictError, RegistryError
from bus_mlops.packaging.signing import Signer
from bus_mlops.promotion import records
from bus_mlops.promotion.aliases import Aliases, check_right, locked, read_aliases, settle
from bus_mlops.promotion.registration import EVIDENCE_TAG, check_files, require_as_registered

if TYPE_CHECKING:
    from mlflow import MlflowClient


def roll_back(
    client: MlflowClient,
    tracking: TrackingConfig,
    name: str,
    reason: str,
    to: str | None = None,
    signer: Signer | None = None,
) -> records.Decision:
    """Make `to`, by default the version with the alias `previous`, champion again; the present one becomes previous.

    `signer` signs the decision.

    Raises:
        RegistryError: There is nothing to go back to, `to` was never champion, or its package was changed.
        PromotionConflictError: Somebody else moves the champion meanwhile.
    """
    reason = records.require_reason(reason, "rollback")
    check_right(client, name)
    settle(client, name)
    present = read_aliases(client, name)
    target = _target(client, name, present, to)
    version = client.get_model_version(name, target)
    check_files(client, version)
    require_as_registered(client, version, records.later_tags(records.decisions(client, name), target))
    record = records.open_record(
        client, tracking, "rollback", f"rollback to version {target}", {"model": name, "version": target}
    )
    decision = {
        "model": name,
        "version": target,
        "decision": records.ROLLBACK,
        "champion_before": present.champion or "",
        "champion_after": target,
        "who": records.who(),
        "when": records.now(),
        "why": reason,
        "package": version.tags.get(DIGEST_TAG, ""),
        "evidence": version.tags.get(EVIDENCE_TAG, ""),
    }
    try:
        with locked(client, name) as lock:
            lock.move(lock.expect(present.champion).promoted(target), record, decision, signer)
    except PromotionConflictError as error:
        unchanged = {"decision": records.CONFLICT, "champion_after": present.champion or "", "why": str(error)}
        records.close_record(client, record, {**decision, **unchanged})
        raise
    return records.as_decision(client.get_run(record))


def _target(client: MlflowClient, name: str, present: Aliases, to: str | None) -> str:
    history = [each for each in records.decisions(client, name) if each.decision in records.MAKES_CHAMPION]
    champions = sorted({each.champion_after for each in history}, key=int)
    target = to or present.previous
    if target is None:
        raise RegistryError(
            f"{name} has no previous champion to go back to. Name a version with --to; champions so far: "
            f"{', '.join(champions) or 'none'}."
        )
    if target == present.champion:
        raise RegistryError(f"version {target} of {name} is champion already: there is nothing to roll back.")
    if target not in champions:
        raise RegistryError(
            f"version {target} of {name} was never champion (there were: {', '.join(champions) or 'none'}): going to "
            "it is no rollback. `bus-mlops promote --force --reason TEXT` promotes past the gate."
        )
    return target
