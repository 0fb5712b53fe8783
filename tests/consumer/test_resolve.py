"""Which store a consumer asks: of a project it reads the tracking address and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bus_mlops import environment
from bus_mlops.cli.app import app
from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.resolve import DEFAULT_STORE, default_tracking_uri, resolve
from bus_mlops.errors import ConfigError, RegistryError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder to work in, without an address in the environment, and with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("BUS_MLOPS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def broken_project(folder, tiny_registry) -> Path:
    """A project whose address is right and all else is wrong."""
    parameters = f"tracking:\n  uri: {tiny_registry.uri}\n  artefacts: x\npromotion:\n  alhpa: lots\nnonsense: 1\n"
    (folder / "params.yaml").write_text(parameters)
    (folder / "extensions").mkdir()
    (folder / "extensions" / "mine.py").write_text("from pathlib import Path\nPath('executed').touch()\n1 / 0\n")
    return folder


class TestDefaultTrackingUri:
    def test_the_environment_comes_first(self, folder, monkeypatch):
        (folder / "params.yaml").write_text("tracking: {uri: 'http://project:5000'}")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine:5000")
        assert default_tracking_uri() == "http://mine:5000"

    def test_then_the_project(self, folder):
        (folder / "params.yaml").write_text("tracking: {uri: 'http://project:5000'}\nnetworks: 3\n")
        assert default_tracking_uri() == "http://project:5000"

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "- a list",
            "train: {epochs: 3}",
            "tracking: http://theirs",
            "tracking: null",
            "tracking: {experiment: x}",
        ],
    )
    def test_then_the_file_here(self, folder, text):
        """Also where params.yaml is another project's, as many have one."""
        if text is not None:
            (folder / "params.yaml").write_text(text)
        assert default_tracking_uri() == DEFAULT_STORE

    @pytest.mark.parametrize(("value", "said"), [("null", "None"), ("5000", "5000"), ("''", "''"), ("[a]", r"\['a'\]")])
    def test_an_address_that_is_none_is_an_error(self, folder, value, said):
        (folder / "params.yaml").write_text(f"tracking: {{uri: {value}}}")
        with pytest.raises(ConfigError, match=f"params.yaml: tracking.uri = {said} .*MLFLOW_TRACKING_URI"):
            default_tracking_uri()

    @pytest.mark.parametrize("content", [b"tracking: {uri: 'http", b"\xff\xfe\x00", b"[" * 5_000, None])
    def test_a_file_that_cannot_be_read_is_an_error(self, folder, content):
        if content is None:
            os.mkfifo(folder / "params.yaml")
        else:
            (folder / "params.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"params.yaml cannot be read for its tracking.uri: .*--tracking-uri"):
            default_tracking_uri()


class TestInABrokenProject:
    """Predictions do not depend on what is wrong with the training."""

    def test_load_model(self, broken_project, scans):
        model = load_model("models:/tiny-phantom@champion")
        assert model.version == "2"
        assert model.predict([scans[0]])[0].error is None
        assert not (broken_project / "executed").exists()

    @pytest.mark.parametrize("command", ["predict", "export", "pull", "serve"])
    def test_commands(self, broken_project, scans, command, monkeypatch):
        uri = "models:/tiny-phantom@champion"
        arguments = {
            "predict": ["--model", uri, "--json", str(scans[0])],
            "export": ["2", str(broken_project / "copy")],
            "pull": [uri],
            "serve": [uri],
        }
        served: list[object] = []
        monkeypatch.setattr("uvicorn.run", lambda app, **_: served.append(app))
        done = CliRunner().invoke(app, [command, *arguments[command]], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "version" in done.output
        assert len(served) == (command == "serve")
        assert not (broken_project / "executed").exists()


@pytest.mark.parametrize("name", ["moved", "moved%20and?renamed#"])
def test_a_copied_project_uses_its_own_files_also_when_it_cannot_be_written(name, folder, tiny_registry, monkeypatch):
    before = tiny_registry.artifacts.parent
    moved = folder / name
    shutil.copytree(before, moved)
    for path in (moved, *moved.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.chdir(moved)
    found = resolve(f"models:/{tiny_registry.name}@champion", "sqlite:///mlflow.db")
    assert found.folder.is_relative_to(moved)
    for path in (moved, *moved.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(moved / "artifacts")
    assert resolve(f"models:/{tiny_registry.name}@champion", "sqlite:///mlflow.db").folder.is_relative_to(before)


def test_the_environment_is_left_as_it_was(broken_project, monkeypatch):
    """What keeps MLflow quiet holds while the model is fetched, and no longer."""
    import mlflow.artifacts

    for name in (*environment.PROCESS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    asked: list[str | None] = []
    real = mlflow.artifacts.download_artifacts

    def download(**options: str) -> str:
        asked.append(os.environ.get("MLFLOW_DISABLE_TELEMETRY"))
        return str(real(**options))

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    before = dict(os.environ)
    load_model("models:/tiny-phantom@champion")
    assert dict(os.environ) == before
    assert asked == ["true"]


def test_an_empty_model_is_not_this_folder():
    with pytest.raises(RegistryError, match="model '' is empty"):
        resolve("")
