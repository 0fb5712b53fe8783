"""The same evidence is decided on by one command at a time, and a dead one holds nobody up."""

from __future__ import annotations

import json
import shutil
import threading

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bus_mlops.config import TrackingConfig
from bus_mlops.errors import PromotionConflictError, RegistryError
from bus_mlops.promotion.evidence_lock import LOCK_TAG, deciding
from bus_mlops.promotion.records import EXPERIMENT

EVIDENCE = "e" * 64


@pytest.fixture
def tracking(tmp_path) -> TrackingConfig:
    return TrackingConfig(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", artifacts=str(tmp_path / "artifacts"))


def tags(client: MlflowClient) -> list[str]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return [key for key in experiment.tags if key.startswith(LOCK_TAG)]


def test_the_second_waits_for_the_first_and_is_told(tracking, caplog):
    client, order = MlflowClient(tracking.uri), []
    inside, waited = threading.Event(), threading.Event()
    warned = caplog.handler.emit

    def noted(record):
        warned(record)
        waited.set()

    caplog.handler.emit = noted  # the first goes on once the second has said that it waits

    def first() -> None:
        with deciding(MlflowClient(tracking.uri), tracking, EVIDENCE):
            inside.set()
            waited.wait(60)
            order.append("first")

    def second() -> None:
        inside.wait(60)
        with deciding(MlflowClient(tracking.uri), tracking, EVIDENCE):
            order.append("second")

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert order == ["first", "second"]
    assert "decides on the same evidence at this moment" in caplog.text
    assert tags(client) == []


def test_other_evidence_and_dead_or_damaged_tags_are_not_waited_for(tracking):
    client = MlflowClient(tracking.uri)
    with deciding(client, tracking, EVIDENCE), deciding(client, tracking, "f" * 64, patience=0):
        assert len(tags(client)) == 2
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    gone = {"process.pid": "1", "process.place": "elsewhere", "process.heartbeat": "1"}
    for i, value in enumerate((json.dumps(gone), "no JSON", "[]")):
        client.set_experiment_tag(experiment.experiment_id, f"{LOCK_TAG}{EVIDENCE[:32]}.{i}", value)
    with deciding(client, tracking, EVIDENCE, patience=0):
        assert len(tags(client)) == 1
    assert tags(client) == []


def test_patience_ends_with_the_name_of_the_other_one(tracking):
    client = MlflowClient(tracking.uri)
    with (
        deciding(client, tracking, EVIDENCE),
        pytest.raises(
            PromotionConflictError, match=r"process .* decides on the same evidence and has been at it for too long"
        ),
        deciding(client, tracking, EVIDENCE, patience=0),
    ):
        pytest.fail("two at once")
    assert tags(client) == []


@pytest.mark.parametrize("said", ["failed with error code 403 != 200", "attempt to write a readonly database"])
def test_an_account_that_may_only_read_is_told_before_anything_is_computed(tracking, empty_store, monkeypatch, said):
    shutil.copy(empty_store, tracking.uri.removeprefix("sqlite:///"))

    def refuse(*_: object) -> None:
        raise MlflowException(said)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    with pytest.raises(RegistryError, match=r"lets this account read and not write.*--dry-run"):  # noqa: SIM117
        with deciding(MlflowClient(tracking.uri), tracking, EVIDENCE):
            pytest.fail("nothing may be computed")
