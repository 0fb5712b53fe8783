"""A process that moves aliases on a store, and may be killed in the middle: `python alias_process.py JSON`.

For each task it forks a child with a store of its own; forking after the imports spares seconds a child. A child
kills itself before its k-th write to the store, as a machine does that loses its power.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# What changes the store; everything else that the client does is reading.
WRITES = (
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "log_param",
    "set_tag",
    "set_terminated",
)


def move(task: dict[str, Any]) -> dict[str, Any]:
    """Promote `version` of `name` on a store, expecting `champion`; says how it ended."""
    from mlflow import MlflowClient

    from bus_mlops.config import TrackingConfig
    from bus_mlops.errors import RegistryError
    from bus_mlops.promotion import records
    from bus_mlops.promotion.aliases import locked

    client = MlflowClient(task["store"])
    if task.get("die_before"):
        _die_before(client, task["die_before"])
    tracking = TrackingConfig(uri=task["store"], artifacts=task["artifacts"])
    record = task.get("record") or records.open_record(client, tracking, "promotion", "a test", {"model": task["name"]})
    decision = {"model": task["name"], "version": task["version"], "decision": "promoted", "when": "2026-01-01"}
    while time.time() < task.get("start", 0):
        time.sleep(0.001)
    try:
        with locked(client, task["name"]) as lock:
            present = lock.expect(task["champion"])
            lock.move(present.promoted(task["version"]), record, decision)
    except RegistryError as error:
        return {"moved": False, "error": type(error).__name__, "message": str(error)}
    return {"moved": True}


def _die_before(client: Any, count: int) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    left = [count]

    def dying(write: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments, **options)

        return call

    for name in WRITES:
        setattr(client, name, dying(getattr(client, name)))
    # Files go past the client.
    for_files: Any = LocalArtifactRepository
    for_files.log_artifacts = dying(for_files.log_artifacts)


def main() -> None:
    """Run the tasks, at the same time where a list holds several; print how each ended (None: killed)."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - imported before the forks

    import bus_mlops.promotion.aliases  # noqa: F401 - imported before the forks

    answers = []
    for together in json.loads(sys.argv[1]):
        children = []
        for task in together:
            answer = Path(task["answer"])
            child = os.fork()
            if not child:
                answer.write_text(json.dumps(move(task)))
                os._exit(0)
            children.append((child, answer))
        for child, answer in children:
            os.waitpid(child, 0)
            answers.append(json.loads(answer.read_text()) if answer.is_file() else None)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
