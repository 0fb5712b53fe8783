"""How a stage begins, in a project and in a copy that DVC made of it."""

from __future__ import annotations

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Config
from bus_mlops.entry import run_stage


def begun() -> Config:
    """The configuration that a stage gets in the working folder."""
    seen: list[Config] = []
    run_stage(seen.append)
    (config,) = seen
    return config


def test_a_copy_of_dvcs_works_on_the_store_of_its_project(tmp_path, monkeypatch):
    project = tmp_path / "my 50 % project"
    copy = project / ".dvc" / "tmp" / "exps" / "tmp1a2b3c"
    copy.mkdir(parents=True)
    values = {**yaml.safe_load(profiles.text("demo")), "weights_folder": "../weights"}
    for folder in (project, copy):
        (folder / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(project)
    assert begun().tracking.uri == "sqlite:///mlflow.db"
    monkeypatch.chdir(copy)
    config = begun()
    assert config.tracking.uri.replace("%2F", "/").replace("%20", " ").endswith("/my 50 %25 project/mlflow.db")
    assert config.tracking.artifacts == str(project / "mlartifacts")
    assert config.weights_folder == project / "../weights"


def test_addresses_that_are_the_same_everywhere_stay(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1a2b3c"
    copy.mkdir(parents=True)
    tracking = {"uri": "https://runs.example.org", "artifacts": "s3://runs", "experiment": "shared"}
    values = {**yaml.safe_load(profiles.text("demo")), "tracking": tracking, "weights_folder": "/weights"}
    (copy / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(copy)
    config = begun()
    assert config.tracking.model_dump(include=set(tracking)) == tracking
    assert str(config.weights_folder) == "/weights"


def test_a_copy_with_code_of_its_own_runs_that(tmp_path, monkeypatch):
    """An editable install would run the project's, which may have been changed since."""
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1a2b3c"
    (copy / "bus_mlops").mkdir(parents=True)
    (copy / "params.yaml").write_text(profiles.text("demo"))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr("sys.orig_argv", ["python", "pipelines/train.py", "losses"])
    begun_anew: list[tuple[list[str], str]] = []

    def execve(_: str, arguments: list[str], environment: dict[str, str]) -> None:
        begun_anew.append((arguments[1:], environment["PYTHONPATH"]))
        raise SystemExit

    monkeypatch.setattr("os.execve", execve)
    with pytest.raises(SystemExit):
        begun()
    assert begun_anew == [(["pipelines/train.py", "losses"], f"{copy}:elsewhere")]
