"""Reaching the store: what a process that changes its working folder sees."""

from __future__ import annotations

from bus_mlops.config import TrackingConfig
from bus_mlops.consumer.resolve import open_registry
from bus_mlops.files import anchored
from bus_mlops.tracking.store import experiment_id, open_client


def test_a_process_that_changes_its_folder_changes_the_store(tmp_path, monkeypatch):
    relative = TrackingConfig(uri="sqlite:///mlflow.db")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        client = open_client(relative)
        assert [each.name for each in client.search_experiments()] == ["Default"]
        experiment_id(client, name, "mlartifacts")
    assert open_registry(anchored(relative.uri)).get_experiment_by_name("second") is not None
    monkeypatch.chdir(tmp_path / "first")
    assert open_client(relative).get_experiment_by_name("second") is None
