"""The record of decisions: one run in the experiment `promotions` for each promotion, refusal and rollback.

A record is open while the decision is being made. Closing it writes `decision.json`, whose sha256 becomes a tag, and
ends the run; nothing writes to it afterwards, and `bus-mlops verify` notices where somebody has.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.config import TrackingConfig
from bus_mlops.consumer import standing
from bus_mlops.errors import RegistryError
from bus_mlops.files import write_json
from bus_mlops.git import git_tags
from bus_mlops.tracking import processes
from bus_mlops.tracking.run_files import RunFiles
from bus_mlops.tracking.search import search_all
from bus_mlops.tracking.store import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Consumers read the records too.
EXPERIMENT, DECISION_DIGEST, MAKES_CHAMPION = standing.EXPERIMENT, standing.DECISION_DIGEST, standing.MAKES_CHAMPION
PROMOTED, FORCED, REFUSED = standing.PROMOTED, standing.FORCED, standing.REFUSED
CONFLICT, ROLLBACK = standing.CONFLICT, standing.ROLLBACK
DECISION_FILE = "decision.json"
# Tag of a version that was promoted past the gate: the reason.
FORCED_TAG = "forced"
_FORCED = "; forced: "
# `bus-mlops gate`: judged, and nothing decided; a look all the same (`looks`).
LOOKED = "looked"
MOVE_NOTHING = (CONFLICT, LOOKED)
PROMOTION_KIND, ROLLBACK_KIND, LOOK_KIND = "promotion", "rollback", "look"
LOOK_TAG = "look"


@dataclass(frozen=True)
class Decision:
    """What was decided about a version: by whom, when (UTC, ISO 8601), why, and which champion it replaced."""

    model: str
    version: str
    decision: str
    champion_before: str
    champion_after: str
    who: str
    when: str
    why: str
    candidate: str = ""
    baseline: str = ""
    commit: str = ""
    package: str = ""
    """Digest of the version's package; like all that follows empty in a record of an earlier version."""
    evidence: str = ""
    """Digest of what was judged, the sha256 of every file of its runs included."""
    former: str = ""
    """The record of the decision before this one."""
    aliases: str = ""
    """Where the aliases point after it, as JSON."""
    registered: str = ""
    """Digest of tags and description of the registered model."""
    look: str = ""
    """Which look at which test images it was, and what it could spend of alpha, as JSON (`looks.TakenLook`)."""
    amended: str = ""
    """Why terms hold that were changed after the candidate's first run had begun."""
    changes: str = ""
    """Which terms those are, as JSON."""
    record: str = ""


def who() -> str:
    """The user and machine that decide."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container may run as a user without a name
        return f"unknown@{socket.gethostname()}"


def now() -> str:
    """The time of a decision, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def open_record(client: MlflowClient, tracking: TrackingConfig, kind: str, title: str, tags: Mapping[str, str]) -> str:
    """Begin a record of kind `promotion`, `rollback` or `look`.

    Returns:
        The id of its run.
    """
    experiment = experiment_id(client, EXPERIMENT, tracking.artifacts)
    fixed = {"kind": kind, **processes.identity(), **git_tags(), **tags}
    return str(client.create_run(experiment, tags=fixed, run_name=title).info.run_id)


def close_record(client: MlflowClient, run_id: str, decision: Mapping[str, str]) -> None:
    """Write the decision and end the run; a record that is closed already stays as it is."""
    if is_closed(client.get_run(run_id)):
        return
    run = client.get_run(run_id)
    told = {key: value for key, value in run.data.tags.items() if key not in {*decision, DECISION_DIGEST}}
    with tempfile.TemporaryDirectory(prefix="bus-decision-") as folder:
        path = Path(folder) / DECISION_FILE
        write_json(path, {**decision, "record": run_id, "tags": told})
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for name, value in RunFiles(client).store(run_id, Path(folder)).items():
            if name not in run.data.params:  # else by a process that died before it could go on
                client.log_param(run_id, name, value)
    for key, value in {**decision, DECISION_DIGEST: digest}.items():
        client.set_tag(run_id, key, value)
    client.set_terminated(run_id, "FINISHED")


def is_closed(run: Run) -> bool:
    """Whether a record holds a decision; logging a model also ends a run, so its status alone says nothing."""
    return bool(run.info.status == "FINISHED" and DECISION_DIGEST in run.data.tags)


def close_abandoned(client: MlflowClient) -> list[str]:
    """Mark, as KILLED, records whose process died before a version was registered.

    A record with a version is left open: the command that decides on the version goes on with it.

    Returns:
        Their run ids.
    """
    closed = []
    for run in _runs(client, "attributes.status = 'RUNNING'"):
        if processes.is_dead(run.data.tags) and not client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            client.set_tag(run.info.run_id, "ended", "its process died before a decision; closed by a later command")
            client.set_terminated(run.info.run_id, "KILLED")
            closed.append(str(run.info.run_id))
    return closed


def decisions(client: MlflowClient, model: str) -> list[Decision]:
    """All decisions about a registered model, the latest first."""
    runs = _runs(client, "attributes.status = 'FINISHED'")
    closed = [run for run in runs if is_closed(run) and run.data.tags.get("model") == model]
    return [as_decision(run) for run in sorted(closed, key=lambda run: run.info.end_time, reverse=True)]


def latest(client: MlflowClient, model: str, version: str) -> Decision | None:
    """The latest decision to promote or refuse a version, if any."""
    found = [each for each in decisions(client, model) if each.version == version and each.decision != ROLLBACK]
    return found[0] if found else None


def forced_reason(why: str) -> str:
    """The reason of a forced decision."""
    return why.partition(_FORCED)[2]


def why_forced(gate: str, reason: str) -> str:
    """Why, for a decision that was forced although the gate says something else."""
    return f"{gate}{_FORCED}{reason}"


def later_tags(found: Iterable[Decision], version: str) -> dict[str, str]:
    """The tags that decisions have added to a version since it was registered."""
    forced = [each for each in found if each.version == version and each.decision == FORCED]
    return {FORCED_TAG: forced_reason(forced[0].why)} if forced else {}


def model_digest(tags: Mapping[str, str], description: str | None) -> str:
    """64 hexadecimal digits over tags and description of a registered model."""
    return hashlib.sha256(json.dumps([sorted(tags.items()), description or ""]).encode()).hexdigest()


def deleted(client: MlflowClient) -> list[Run]:
    """Records of decisions that were deleted and that MLflow still has."""
    from mlflow.entities import ViewType

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY, max_results=1000)
    return [run for run in found if DECISION_DIGEST in run.data.tags]


def every_record(client: MlflowClient, model: str) -> list[Run]:
    """All records of a registered name, the first one first: closed or not, deleted ones too."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found = search_all(client, experiment.experiment_id, f"tags.model = '{model}'", deleted=True)
    return sorted(found, key=lambda run: (run.info.start_time, run.info.end_time or 0))


def as_decision(run: Run) -> Decision:
    """A closed record as a value."""
    names = {each.name for each in fields(Decision)} - {"record"}
    values = {name: run.data.tags.get(name, "") for name in names}
    return Decision(**{**values, "record": str(run.info.run_id)})


def check_record(client: MlflowClient, run_id: str) -> str:
    """What differs between a closed record and what was written; "" if nothing does."""
    run = client.get_run(run_id)
    if run.info.lifecycle_stage == "deleted":
        return f"the record {run_id} was deleted: `mlflow runs restore --run-id {run_id}` brings it back"
    if not is_closed(run):
        return (
            f"the record {run_id} is {run.info.status}: no decision was made, or its tag {DECISION_DIGEST} was removed"
        )
    files = RunFiles(client)
    with tempfile.TemporaryDirectory(prefix="bus-decision-") as folder:
        damages = files.damages(run, Path(folder)) if DECISION_FILE in files.digests(run_id) else []
        if damages:
            return f"of the record {'; '.join(damage.sentence for damage in damages)}"
        try:
            path = Path(client.download_artifacts(run_id, DECISION_FILE, folder))
        except Exception as error:  # each artifact store raises its own kind
            return f"the record {run_id} has lost its {DECISION_FILE} ({type(error).__name__})"
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != run.data.tags.get(DECISION_DIGEST):
        return f"{DECISION_FILE} of the record {run_id} or its tag {DECISION_DIGEST} was changed after the decision"
    written = json.loads(content)
    changed = [name for name, value in asdict(as_decision(run)).items() if written.get(name, "") != value]
    if "tags" in written:
        own = {key: value for key, value in run.data.tags.items() if key not in {*written, DECISION_DIGEST}}
        changed += sorted(key for key in {*own, *written["tags"]} if own.get(key) != written["tags"].get(key))
    return f"tags of the record {run_id} were changed after the decision: {', '.join(changed)}" if changed else ""


def require_reason(reason: str | None, command: str, option: str = "--reason") -> str:
    """A reason that says something.

    Raises:
        RegistryError: It is empty.
    """
    text = (reason or "").strip()
    if not text or len(text) > 1000:
        raise RegistryError(f"{command} needs {option} TEXT (1 to 1000 characters): it stays in the record for others.")
    return text


def _runs(client: MlflowClient, query: str) -> list[Run]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return [] if experiment is None else search_all(client, experiment.experiment_id, query)
