"""Moving the aliases `champion`, `previous` and `candidate` so that nobody overwrites a move that he has not seen.

MLflow sets an alias unconditionally: the last writer wins. Here a writer first announces himself with a tag on the
registered model, which any MLflow store can keep, and goes on when nobody else is announced (`tag_lock`). Alone, he
compares the champion with the one he has judged against. Before he touches an
alias he writes where all of them shall point into his tag: if he dies, the next writer finishes for him.
"""

from __future__ import annotations

import json
import random
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bus_mlops.consumer.signatures import SIGNATURE_TAG
from bus_mlops.consumer.standing import CLAIM_TAG
from bus_mlops.errors import PromotionConflictError, RegistryError
from bus_mlops.packaging.signing import Signer
from bus_mlops.promotion import descriptions, records
from bus_mlops.tracking import processes
from bus_mlops.tracking.tag_lock import enter

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

# The tag of every version so far: a store may hold one that an earlier version left.
LOCK_TAG = CLAIM_TAG
NEVER_SET = "may-this-account-promote"
# A move takes a second. A lock of another machine, whose processes cannot be looked at, is dead after ten minutes.
DEAD_AFTER_SECONDS = 600.0
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Aliases:
    """The version (as MLflow writes it) behind each alias, None where no version carries it."""

    champion: str | None = None
    previous: str | None = None
    candidate: str | None = None

    def promoted(self, version: str) -> Aliases:
        """After `version` has become champion."""
        if version == self.champion:
            return self
        candidate = None if self.candidate == version else self.candidate
        return Aliases(champion=version, previous=self.champion, candidate=candidate)

    def refused(self, version: str) -> Aliases:
        """After `version` was refused."""
        return self if version == self.champion else replace(self, candidate=version)


def read_aliases(client: MlflowClient, name: str) -> Aliases:
    """Where the aliases point now; all None for a name that is not registered."""
    model = registered(client, name)
    found = model.aliases if model else {}
    return Aliases(**{alias: str(found[alias]) for alias in asdict(Aliases()) if alias in found})


def check_right(client: MlflowClient, name: str) -> None:
    """Raise, before anything is written, if this account may begin a move and not end it.

    On a server with logins it takes more to delete an alias than to set one: ask for one that is never set.
    """
    if registered(client, name) is not None:
        client.delete_registered_model_alias(name, NEVER_SET)


class AliasLock:
    """The right to move a model's aliases, held while its tag stands."""

    def __init__(self, client: MlflowClient, name: str, patience: float) -> None:
        self.client, self.name = client, name
        # Of this attempt alone: a second one of the same decision must not overwrite what the first had begun.
        self.key = f"{LOCK_TAG}{secrets.token_hex(8)}"
        self.intent: dict[str, Any] | None = None
        self._deadline = time.monotonic() + patience
        self._announced = False

    def announce(self) -> None:
        """Write the tag that others see."""
        self.client.set_registered_model_tag(self.name, self.key, json.dumps(processes.identity()))
        self._announced = True

    def withdraw(self) -> None:
        """Take the tag away."""
        self.client.delete_registered_model_tag(self.name, self.key)
        self._announced = False

    def others(self) -> dict[str, dict[str, Any]]:
        """What the other living writers have announced, by key."""
        found = _locks(self.client, self.name)
        return {key: value for key, value in found.items() if key != self.key and not _is_dead(value)}

    def pause(self) -> None:
        """Wait for a moment.

        Raises:
            RegistryError: It has waited for too long; no trace of this writer is left.
        """
        if time.monotonic() > self._deadline:
            holders = [f"process {v['process.pid']} on {v['process.host']}" for v in self.others().values()]
            if self._announced:
                self.withdraw()
            raise RegistryError(
                f"the aliases of {self.name} are being moved by {', '.join(holders) or 'another process'}, for too "
                "long. Wait for it or stop it; the next command then finishes its move."
            )
        time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    def abandon(self) -> None:
        """Leave a move that failed half-way to the next writer, even while this process lives on."""
        value = json.dumps({**(self.intent or {}), "abandoned": True})
        self.client.set_registered_model_tag(self.name, self.key, value)

    def expect(self, champion: str | None) -> Aliases:
        """The present aliases.

        Raises:
            PromotionConflictError: The champion is not the one that was judged against.
        """
        present = read_aliases(self.client, self.name)
        if present.champion != champion:
            raise PromotionConflictError(
                f"{self.name}: the champion was {_named(champion)} when this was decided and is "
                f"{_named(present.champion)} now, so nothing was moved. Look at `bus-mlops history`, then run the same "
                "command again to decide against the present champion."
            )
        return present

    def move(self, wanted: Aliases, record: str, decision: Mapping[str, str], signer: Signer | None = None) -> None:
        """Close the record (a run id) with its decision, signed, then point the aliases, `champion` last."""
        whole = {**decision, **self._state(wanted, record)}
        signed = {} if signer is None else {SIGNATURE_TAG: signer.sign_decision(whole, record)}
        self.intent = {
            **processes.identity(),
            "wanted": asdict(wanted),
            "described": self._described(),
            "record": record,
            "decision": {**whole, **signed},
        }
        self.client.set_registered_model_tag(self.name, self.key, json.dumps(self.intent))
        _carry_out(self.client, self.name, self.intent)

    def _state(self, wanted: Aliases, record: str) -> dict[str, str]:
        """How the registered model stands after the move, and after which decision it comes."""
        model = registered(self.client, self.name)
        tags = {key: value for key, value in (model.tags if model else {}).items() if not key.startswith(LOCK_TAG)}
        former = [each.record for each in records.decisions(self.client, self.name) if each.record != record]
        return {
            "former": former[0] if former else "",
            "aliases": json.dumps(asdict(wanted)),
            "registered": records.model_digest(tags, self._described()),
        }

    def _described(self) -> str:
        """The model's own description, else what aliases mean."""
        model = registered(self.client, self.name)
        return (model.description if model else None) or descriptions.MODEL


@contextmanager
def locked(client: MlflowClient, name: str, patience: float = PATIENCE_SECONDS) -> Iterator[AliasLock]:
    """Hold the right to move the aliases of `name`, after finishing what a writer that died had begun.

    Raises:
        RegistryError: Others hold the right for longer than `patience` seconds.
    """
    lock = AliasLock(client, name, patience)
    enter(lock)
    try:
        _finish_moves(lock)
        yield lock
    except BaseException:
        with suppress(Exception):  # the error at hand matters more
            lock.abandon() if lock.intent else lock.withdraw()
        raise
    lock.withdraw()


def _finish_moves(lock: AliasLock) -> None:
    for key, value in _locks(lock.client, lock.name).items():
        if key != lock.key and _is_dead(value):
            if "wanted" in value:
                _carry_out(lock.client, lock.name, value)
            lock.client.delete_registered_model_tag(lock.name, key)


def _carry_out(client: MlflowClient, name: str, intent: Mapping[str, Any]) -> None:
    """What a holder does once it is written down; doing it twice, or from the middle on, ends the same."""
    decision = intent["decision"]
    records.close_record(client, intent["record"], decision)
    model = registered(client, name)
    if model is not None and not model.description and intent.get("described"):
        client.update_registered_model(name, intent["described"])
    if decision.get("decision") == records.FORCED:
        reason = records.forced_reason(decision["why"])
        client.set_model_version_tag(name, decision["version"], records.FORCED_TAG, reason)
    _apply(client, name, Aliases(**intent["wanted"]))


def settle(client: MlflowClient, name: str) -> None:
    """Finish what a writer that died had begun, if any; nothing to do for a name that is not registered."""
    if any(_is_dead(value) for value in _locks(client, name).values()):
        with locked(client, name):
            pass


def _locks(client: MlflowClient, name: str) -> dict[str, dict[str, Any]]:
    model = registered(client, name)
    tags = model.tags if model else {}
    return {key: _announced(value) for key, value in tags.items() if key.startswith(LOCK_TAG)}


def _announced(value: str) -> dict[str, Any]:
    """What a writer announced; one whose tag was damaged is as good as gone, and holds nobody up."""
    with suppress(ValueError):
        found = json.loads(value)
        if isinstance(found, dict):
            return found
    return {"abandoned": True}


def _is_dead(value: Mapping[str, Any]) -> bool:
    if value.get("abandoned"):
        return True
    if value.get("process.host") != socket.gethostname():
        return time.time() - float(value.get("process.heartbeat", 0)) > DEAD_AFTER_SECONDS
    return processes.is_dead(value)


def registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    """A registered model; None if there is none of that name."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _apply(client: MlflowClient, name: str, wanted: Aliases) -> None:
    present = read_aliases(client, name)
    # `champion` last: a consumer finds the former or the new one, never none.
    for alias in ("previous", "candidate", "champion"):
        version, now = getattr(wanted, alias), getattr(present, alias)
        if version is None and now is not None:
            client.delete_registered_model_alias(name, alias)
        elif version is not None and version != now:
            client.set_registered_model_alias(name, alias, version)


def _named(version: str | None) -> str:
    return f"version {version}" if version else "none"
