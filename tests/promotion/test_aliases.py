"""Moving aliases on a real store: two processes at once, and processes killed before every single write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alias_process
import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import PromotionConflictError, RegistryError
from bus_mlops.files import local_path
from bus_mlops.promotion import records
from bus_mlops.promotion.aliases import LOCK_TAG, Aliases, locked, read_aliases, settle
from bus_mlops.tracking.relocation import find_moves, relocate

NAME = "bus-test"
# The writes of a move: 1 announce, 2 intend, 3 decision.json, 4 its digest, 5 to 12 its tags, 13 end the run,
# 14 `previous`, 15 `champion`, 16 withdraw. A process that would die before the 17th is through.
KILLED_BEFORE = (1, 2, 3, 4, 5, 8, 13, 14, 15, 16)
THROUGH = 17


@dataclass(frozen=True)
class Models:
    """A store with three versions of one model, the first of them champion, and an open record."""

    folder: Path
    record: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def client(self) -> MlflowClient:
        # MLflow remembers where the artifacts of a run are by its id, which copies of a store share.
        utils._artifact_repos_cache.clear()
        return MlflowClient(self.uri)

    @property
    def tracking(self) -> TrackingConfig:
        return TrackingConfig(uri=self.uri, artifacts=str(self.folder / "artifacts"))

    def task(self, version: str, champion: str | None = "1", **more: Any) -> dict[str, Any]:
        values = {"store": self.uri, "artifacts": str(self.folder / "artifacts"), "name": NAME}
        answer = str(self.folder / f"answer-{version}-{more.get('start', 0)}.json")
        return {**values, "version": version, "champion": champion, "answer": answer, **more}

    def locks(self) -> list[str]:
        return [key for key in self.client.get_registered_model(NAME).tags if key.startswith(LOCK_TAG)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, empty_store) -> Models:
    folder = tmp_path_factory.mktemp("aliases")
    shutil.copy(empty_store, folder)
    models = Models(folder, "")
    client = models.client
    client.create_registered_model(NAME)
    for _ in range(3):
        client.create_model_version(NAME, str(folder / "nothing"))
    client.set_registered_model_alias(NAME, "champion", "1")
    record = records.open_record(client, models.tracking, "promotion", "a test", {"model": NAME})
    # What a store has that is moved: the folder of a run.
    Path(local_path(client.get_run(record).info.artifact_uri)).mkdir(parents=True, exist_ok=True)  # type: ignore[arg-type]
    return Models(folder, record)


def copied(made: Models, folder: Path) -> Models:
    """The same store again."""
    shutil.copytree(made.folder, folder)
    (folder / "artifacts").mkdir(exist_ok=True)
    copy = Models(folder, made.record)
    for move in find_moves(copy.tracking):
        relocate(move)
    return copy


@pytest.fixture
def models(made, tmp_path) -> Models:
    return copied(made, tmp_path / "store")


def run(tasks: list[list[dict[str, Any]]]) -> list[dict[str, Any] | None]:
    command = [sys.executable, alias_process.__file__, json.dumps(tasks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any] | None] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_the_former_champion_becomes_previous():
    aliases = Aliases().promoted("1")
    assert aliases == Aliases(champion="1")
    assert aliases.refused("2") == Aliases(champion="1", candidate="2")
    assert aliases.refused("2").promoted("2") == Aliases(champion="2", previous="1")
    assert aliases.refused("2").promoted("3") == Aliases(champion="3", previous="1", candidate="2")
    assert aliases.promoted("1") == aliases.refused("1") == aliases


def test_a_champion_that_has_changed_meanwhile_is_a_conflict_and_nothing_moves(models):
    with (
        pytest.raises(PromotionConflictError, match="was version 2 when this was decided and is version 1 now"),
        locked(models.client, NAME) as lock,
    ):
        lock.expect("2")
    assert read_aliases(models.client, NAME) == Aliases(champion="1")
    assert models.locks() == []


def test_of_promotions_at_once_one_wins_and_the_others_know_it(made, tmp_path):
    rounds = [copied(made, tmp_path / str(i)) for i in range(3)]
    start = time.time() + 6
    tasks = [[models.task(version, start=start + 3 * i) for version in ("2", "3")] for i, models in enumerate(rounds)]
    answers = run(tasks)
    for i, models in enumerate(rounds):
        pair = [answer for answer in answers[2 * i : 2 * i + 2] if answer is not None]
        assert sorted(answer["moved"] for answer in pair) == [False, True]
        winner = "2" if pair[0]["moved"] else "3"
        loser = next(answer for answer in pair if not answer["moved"])
        assert loser["error"] == "PromotionConflictError"
        assert f"is version {winner} now" in loser["message"]
        assert read_aliases(models.client, NAME) == Aliases(champion=winner, previous="1")
        assert models.locks() == []
        assert [each.version for each in records.decisions(models.client, NAME)] == [winner]


def test_a_process_killed_before_any_write_leaves_a_state_that_the_next_one_finishes(made, tmp_path):
    steps = {k: copied(made, tmp_path / str(k)) for k in (*KILLED_BEFORE, THROUGH)}
    answers = run([[m.task("2", record=m.record, die_before=k)] for k, m in steps.items()])
    assert answers == [*[None] * len(KILLED_BEFORE), {"moved": True}]
    for k in KILLED_BEFORE:
        models = steps[k]
        between = read_aliases(models.client, NAME)
        assert between.champion in ("1", "2")  # a consumer always finds one
        assert between.champion == "1" or between.previous == "1"  # and a rollback the one before
        settle(models.client, NAME)
        after = read_aliases(models.client, NAME)
        assert after in (Aliases(champion="1"), Aliases(champion="2", previous="1"))
        assert models.locks() == []
        decided = records.decisions(models.client, NAME)
        assert [each.version for each in decided] == (["2"] if after.champion == "2" else [])
        if decided:
            assert records.check_record(models.client, decided[0].record) == ""
        assert (k > 2) == (after.champion == "2")  # an intention is carried out, an announcement is not
        # Running the same again ends the same, whatever was left.
        with locked(models.client, NAME) as lock:
            lock.move(lock.expect(after.champion).promoted("2"), models.record, {"model": NAME, "version": "2"})
        assert read_aliases(models.client, NAME) == Aliases(champion="2", previous="1")


def test_a_living_holder_is_waited_for_and_named(models):
    client = models.client
    with locked(client, NAME):
        with pytest.raises(RegistryError, match="are being moved by process"), locked(client, NAME, patience=0.3):
            pytest.fail("two holders at once")
        assert len(models.locks()) == 1
    with locked(client, NAME, patience=0.3):
        pass
    assert models.locks() == []


def test_a_holder_of_another_machine_counts_as_dead_after_a_while(models):
    identity = {"process.host": "elsewhere", "process.pid": "1", "process.started": "0"}
    wanted = {"champion": "3", "previous": "1", "candidate": None}
    intent = {**identity, "wanted": wanted, "record": models.record, "decision": {"model": NAME, "version": "3"}}
    for age, expected in ((30, "1"), (3600, "3")):
        value = {**intent, "process.heartbeat": str(time.time() - age)}
        models.client.set_registered_model_tag(NAME, f"{LOCK_TAG}0", json.dumps(value))
        settle(models.client, NAME)
        assert read_aliases(models.client, NAME).champion == expected


def test_a_move_that_fails_half_way_is_finished_by_the_next_writer(models):
    client = models.client

    def refuse(*arguments: Any) -> None:
        raise OSError("the store went away")

    working = client.set_registered_model_alias
    client.set_registered_model_alias = refuse
    with pytest.raises(OSError, match="went away"), locked(client, NAME) as lock:
        lock.move(lock.expect("1").promoted("2"), models.record, {"model": NAME, "version": "2"})
    assert read_aliases(client, NAME) == Aliases(champion="1")
    client.set_registered_model_alias = working
    settle(client, NAME)
    assert read_aliases(client, NAME) == Aliases(champion="2", previous="1")
