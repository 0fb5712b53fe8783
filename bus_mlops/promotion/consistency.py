"""Whether a registered model and the records of its decisions agree: what `verify` and `history` say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from bus_mlops.consumer.signatures import check_decision
from bus_mlops.consumer.trusted_keys import trusted_keys
from bus_mlops.errors import UntrustedError
from bus_mlops.promotion import records
from bus_mlops.promotion.aliases import LOCK_TAG, read_aliases, registered
from bus_mlops.promotion.looks import Looks

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel


def contradictions(client: MlflowClient, name: str) -> list[str]:
    """What no decision explains about a registered model, and which decisions are gone or were changed; often none."""
    model = registered(client, name)
    found = records.decisions(client, name)
    if model is None:
        decided = [each for each in found if each.version]
        return [f"{name} is not registered any more, though {len(decided)} decisions are on record"] if decided else []
    said = [*unexplained_state(client, model, found), *_gone(client, name, found), *_versions(client, name, found)]
    said += Looks(client, name).disagreements()
    for decision in found:
        problem = records.check_record(client, decision.record)
        said += [problem] if problem else []
    return said + list(_unsigned(client, found))


def _unsigned(client: MlflowClient, found: list[records.Decision]) -> Iterator[str]:
    """Decisions that no trusted key has signed, where keys are trusted."""
    keys = trusted_keys()
    if keys is None:
        return
    for each in found:
        if each.decision in records.MOVE_NOTHING:
            continue
        try:
            check_decision(client.get_run(each.record).data.tags, each.record, keys)
        except UntrustedError as error:
            yield str(error)


def unexplained_state(client: MlflowClient, model: RegisteredModel, found: list[records.Decision]) -> list[str]:
    """Aliases, tags and description that are not those that the latest decision left."""
    said = []
    moved = next((each for each in found if each.decision not in records.MOVE_NOTHING), None)
    present = asdict(read_aliases(client, model.name))
    expected = json.loads(moved.aliases) if moved and moved.aliases else dict.fromkeys(present)
    if moved and not moved.aliases:  # decided by an earlier version: of the aliases it names the champion only
        expected = {**present, "champion": moved.champion_after or None}
    others = {alias: str(version) for alias, version in model.aliases.items() if alias not in present}
    for alias, version in {**present, **others}.items():
        if version != expected.get(alias):
            by = f"the latest decision ({moved.record}) left it at" if moved else "no decision set it:"
            said.append(
                f"the alias {alias} points to {_version(version)}, but {by} {_version(expected.get(alias))}. Put it "
                "back, or decide on the record with `bus-mlops rollback` or `promote`"
            )
    tags = {key: value for key, value in (model.tags or {}).items() if not key.startswith(LOCK_TAG)}
    if moved and moved.registered and moved.registered != records.model_digest(tags, model.description):
        said.append(
            f"tags or description of {model.name} were changed after the latest decision ({moved.record}): now the "
            f"tags {tags} and the description {model.description or ''!r}. Put them back, or the next decision takes "
            "them as they are"
        )
    return said


def _gone(client: MlflowClient, name: str, found: list[records.Decision]) -> list[str]:
    """Records of decisions that were deleted: those that MLflow still has, and those that a later one follows."""
    known = {each.record for each in found}
    deleted = {str(run.info.run_id) for run in records.deleted(client) if run.data.tags.get("model") == name}
    lost = {each.former for each in found} - known - deleted - {""}
    return [
        f"the record {record} of a decision was deleted (its look counts all the same): `mlflow runs restore --run-id "
        f"{record}` brings it back"
        for record in sorted(deleted)
    ] + [f"the record {record} of a decision is gone; the decision after it names it" for record in sorted(lost)]


def _versions(client: MlflowClient, name: str, found: list[records.Decision]) -> list[str]:
    numbers = {str(version.version) for version in client.search_model_versions(f"name = '{name}'")}
    decided = {each.version for each in found} - {""}
    return [
        f"version {number} was decided on, but is not in the registry any more" for number in sorted(decided - numbers)
    ] + [
        f"version {number} has no decision on record: `bus-mlops promote` decides on what a killed command left"
        for number in sorted(numbers - decided)
    ]


def _version(number: str | None) -> str:
    return f"version {number}" if number else "none"
