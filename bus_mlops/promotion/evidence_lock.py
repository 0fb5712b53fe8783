"""One command at a time decides on the same evidence, so that it is registered and decided once.

Whoever decides announces himself with a tag on the experiment of records, which stands before there is any model of the
name (`tag_lock`). The tag of a process that died holds nobody up: the next one takes it away.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import PromotionConflictError, RegistryError
from bus_mlops.promotion.records import EXPERIMENT
from bus_mlops.tracking import processes
from bus_mlops.tracking.heartbeat import heartbeat
from bus_mlops.tracking.store import experiment_id
from bus_mlops.tracking.tag_lock import enter

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOG = logging.getLogger(__name__)
LOCK_TAG = "promotion.decides."
# Packaging takes a minute; a refit as long as a training.
PATIENCE_SECONDS = 3600.0
POLL_SECONDS = 0.5
# How a server refuses an account, and SQLite a file.
_MAY_NOT_WRITE = ("error code 403", "PERMISSION_DENIED", "readonly database")


class _Deciding:
    """This process as one that decides on some evidence."""

    def __init__(self, client: MlflowClient, experiment: str, evidence: str, patience: float, what: str) -> None:
        self._what = what
        self._client, self._experiment = client, experiment
        self._prefix = f"{LOCK_TAG}{evidence[:32]}."
        self.key = f"{self._prefix}{secrets.token_hex(8)}"
        self._deadline = time.monotonic() + patience
        self._told = False

    def announce(self) -> None:
        """Write the tag that others see."""
        self._client.set_experiment_tag(self._experiment, self.key, json.dumps(processes.identity()))

    def withdraw(self) -> None:
        """Take the tag away, if it is there."""
        with suppress(Exception):  # it is dead once this process is
            self._client.delete_experiment_tag(self._experiment, self.key)

    def others(self) -> dict[str, str]:
        """Who else decides on the same evidence and is alive."""
        return {key: processes.name(tags) for key, tags in self._announced() if not processes.is_dead(tags)}

    def pause(self) -> None:
        """Wait for a moment.

        Raises:
            PromotionConflictError: It has waited for too long.
        """
        others = ", ".join(self.others().values())
        if time.monotonic() > self._deadline:
            self.withdraw()
            raise PromotionConflictError(
                f"{others or 'another process'} {self._what} and has been at it for too long. Wait for it or stop it, "
                "then run the same command again."
            )
        if others and not self._told:
            self._told = True
            LOG.warning("%s %s at this moment: waiting for its decision", others, self._what)
        time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    def sweep(self) -> None:
        """Take away what dead processes left."""
        for key, tags in self._announced():
            if processes.is_dead(tags):
                with suppress(Exception):  # another process was faster
                    self._client.delete_experiment_tag(self._experiment, key)

    def _announced(self) -> list[tuple[str, dict[str, str]]]:
        tags = self._client.get_experiment(self._experiment).tags
        return [(key, _read(value)) for key, value in tags.items() if key.startswith(self._prefix) and key != self.key]


@contextmanager
def looking(client: MlflowClient, tracking: TrackingConfig, model: str) -> Iterator[None]:
    """Be the only one that looks at test images for a registered name, as in `deciding`."""
    key = hashlib.sha256(f"look {model}".encode()).hexdigest()
    with deciding(client, tracking, key, what=f"judges a candidate of {model}"):
        yield


@contextmanager
def deciding(
    client: MlflowClient,
    tracking: TrackingConfig,
    evidence: str,
    patience: float = PATIENCE_SECONDS,
    what: str = "decides on the same evidence",
) -> Iterator[None]:
    """Be the only one that decides on some evidence while the block runs; others are waited for, and named.

    Args:
        client: Of the store.
        tracking: Where it is.
        evidence: Its digest.
        patience: Seconds that others are waited for.
        what: What they do, for people.

    Raises:
        PromotionConflictError: Another process has been at it for longer.
        RegistryError: This account may read the store and not write it.
    """
    from mlflow.exceptions import MlflowException

    try:
        lock = _Deciding(client, experiment_id(client, EXPERIMENT, tracking.artifacts), evidence, patience, what)
        enter(lock)
    except MlflowException as error:
        if not any(said in str(error) for said in _MAY_NOT_WRITE):
            raise
        raise RegistryError(
            f"the store lets this account read and not write ({str(error).strip().splitlines()[0][:200]}), and who "
            f"{what} puts it on record before a test number is shown: nothing was computed. Ask somebody who may "
            "write; `bus-mlops gate --dry-run` says without a record what would be judged."
        ) from error
    try:
        lock.sweep()
        with heartbeat(lock.announce):
            yield
    finally:
        lock.withdraw()


def _read(value: str) -> dict[str, str]:
    """The process behind a tag; one that was damaged is of nobody, and dead."""
    with suppress(ValueError):
        found = json.loads(value)
        if isinstance(found, dict) and "process.pid" in found:
            return found
    return {"process.heartbeat": "0"}
