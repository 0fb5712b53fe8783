"""`bus-mlops init`: a project without a clone, run by the pipeline image's script; what it refuses and updates."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import ROOT, dvc_environment, small_profile, tiny_values
from typer.testing import CliRunner

from bus_mlops import profiles, scaffold
from bus_mlops.cli.app import app
from bus_mlops.errors import ConfigError

IMAGE = ROOT / "docker" / "pipeline"
GIT = {f"GIT_{who}_{what}": "anna@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def project(tmp_path) -> Path:
    scaffold.make(tmp_path / "project", profiles.text("demo"))
    return tmp_path / "project"


def names_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_stage_runs_in_a_folder_that_was_empty_and_not_again(tmp_path):
    """With the script that the image starts, as it is."""
    folder = tmp_path / "project"
    folder.mkdir()
    environment = dvc_environment(ROOT, **GIT)

    def reproduce() -> str:
        command = [str(IMAGE / "reproduce.sh"), "phantom"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert CliRunner().invoke(app, ["init", str(folder)], env=environment).exit_code == 0
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_values(small_profile())))
    assert "Running stage 'phantom'" in reproduce()
    assert (folder / "data" / "phantom" / "busi").is_dir()
    assert "Stage 'phantom' didn't change" in reproduce()
    tracked = subprocess.run(["git", "ls-files"], cwd=folder, capture_output=True, text=True).stdout.split()
    assert {"params.yaml", "dvc.yaml", "installed.yaml", "pipelines/train.py", ".dvc/config"} <= set(tracked)


def test_every_stage_of_a_clone_is_there_and_depends_on_nothing_that_is_not(project):
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["installed", *yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]]
    digests = yaml.safe_load((project / "installed.yaml").read_text())
    for name, stage in stages.items():
        body: dict[str, Any] = stage.get("do", stage)
        assert not [each for each in body["deps"] if each.startswith("bus_mlops")], name
        assert (project / body["cmd"].split()[1]).is_file(), name
        keys = [key for each in body.get("params", []) if isinstance(each, dict) for key in each["installed.yaml"]]
        assert bool(keys) == (name != "installed")
        assert all(re.fullmatch("[0-9a-f]{64}", digests[key]) for key in keys), name
    assert "bus_mlops/" not in (project / "dvc.yaml").read_text()


def test_a_wheel_gets_all_that_a_project_is_made_of():
    """Setup.py cannot import the package that it builds."""
    found = re.search(r"PATTERNS = (\(.*?\))", (ROOT / "setup.py").read_text(), re.DOTALL)
    assert found is not None
    patterns = {str(scaffold.PIPELINE), *scaffold.KEPT_CURRENT, *scaffold.WRITTEN_ONCE}
    assert set(ast.literal_eval(found[1])) == patterns
    assert all(list(ROOT.glob(pattern)) for pattern in patterns)


def test_nothing_is_written_over(project, tmp_path):
    before = {name: (project / name).read_bytes() for name in names_of(project)}
    with pytest.raises(ConfigError, match="is not empty"):
        scaffold.make(project, "mine: 1")
    for folder in (ROOT, tmp_path):
        with pytest.raises(ConfigError, match=r"a clone|no project"):
            scaffold.update(folder)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        scaffold.make(tmp_path / "file", "")
    assert CliRunner().invoke(app, ["init", str(tmp_path / "new"), "--profile", "none"]).exit_code == 1
    assert not (tmp_path / "new").exists()
    assert {name: (project / name).read_bytes() for name in names_of(project)} == before


def test_another_version_stops_the_pipeline_until_it_is_brought_up_to_date(project, monkeypatch):
    (project / "params.yaml").write_text("mine: 1\n")
    (project / "pipelines" / "train.py").write_text("old")
    monkeypatch.setattr("bus_mlops.__version__", "99.0")
    with pytest.raises(ConfigError, match=r"not that of bus-mlops 99\.0.*`bus-mlops init --update \.`"):
        scaffold.write_digests(project)
    scaffold.update(project)
    scaffold.write_digests(project)
    assert (project / "params.yaml").read_text() == "mine: 1\n"
    assert (project / "pipelines" / "train.py").read_text() == (ROOT / "pipelines" / "train.py").read_text()


def test_a_digest_is_of_what_it_names(project, tmp_path, monkeypatch):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("1")
    (tmp_path / "module.py").write_text("2")
    monkeypatch.setattr(scaffold, "PACKAGE", tmp_path)
    before = {key: scaffold._digest(key) for key in ("room", "module")}
    (tmp_path / "room" / "a.pyc").write_text("made")
    assert {key: scaffold._digest(key) for key in before} == before
    (tmp_path / "room" / "b.py").write_text("1")
    (tmp_path / "module.py").write_text("3")
    assert not {scaffold._digest(key) for key in before} & set(before.values())


def test_without_git_dvc_works_and_the_user_is_told(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "the gate refuses runs of unknown code" in scaffold.commit(project)
    assert "no_scm = true" in (project / ".dvc" / "config").read_text()


def test_the_image_copies_what_there_is_and_sends_no_more(tmp_path):
    """As Docker reads them: the build fails on a source that is missing or ignored."""
    recipe = (IMAGE / "Dockerfile").read_text()
    copied = [source for line in re.findall(r"^COPY (.*) \S+$", recipe, re.MULTILINE) for source in line.split()]
    sent = re.findall(r"^!(\S+)$", (IMAGE / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in (*copied, *sent))
    covered = {name: [each for each in sent if each == name or each.startswith(name)] for name in map(_bare, copied)}
    assert all(covered.values()), covered
    assert not [each for each in sent if not any(each == name or each.startswith(name) for name in covered)]
    assert {"FROM python:3.11-slim-trixie", "USER 1000:1000", "VOLUME /project"} <= set(recipe.splitlines())
    assert "--require-hashes --no-deps --requirement /opt/requirements.lock" in recipe
    assert os.access(IMAGE / "reproduce.sh", os.X_OK)


def test_a_user_without_an_entry_has_a_home_and_a_name_in_the_image():
    """DVC asks for the user's name, and stopped at a `user:` that the image does not know."""
    recipe = (IMAGE / "Dockerfile").read_text()
    assert re.search(r"^ENV HOME=/home/bus USER=bus$", recipe, re.MULTILINE)
    assert "chmod 1777 /home/bus" in recipe


def test_a_stop_of_the_container_reaches_the_stage_and_is_waited_for(tmp_path):
    """What Ctrl-C does to the group of processes; the script leaves after the stage, which closes its runs."""
    dvc = tmp_path / "dvc"
    dvc.write_text("#!/bin/sh\ntrap 'sleep 1; echo closed; exit 3' INT\necho started\nwhile :; do sleep 0.1; done\n")
    dvc.chmod(0o755)
    (tmp_path / "params.yaml").touch()
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(
        [str(IMAGE / "reproduce.sh")],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "started\n"
        os.killpg(script.pid, signal.SIGINT)
        assert script.wait(30) == 3
        assert script.stdout.read() == "closed\n"
    recipe = (IMAGE / "Dockerfile").read_text()
    assert {"STOPSIGNAL SIGINT", "ENV TINI_KILL_PROCESS_GROUP=1"} <= set(recipe.splitlines())
    services = yaml.safe_load((IMAGE / "compose.yaml").read_text())["services"]
    assert all(service["init"] and service["stop_grace_period"] == "1m" for service in services.values())


def test_the_service_builds_that_image_and_its_variables_are_explained():
    text = (IMAGE / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    build = services["reproduce"]["build"]
    assert (IMAGE / build["context"] / build["dockerfile"]).resolve() == IMAGE / "Dockerfile"
    assert services["ui"]["image"] == services["reproduce"]["image"]
    page = (ROOT / "docs" / "how-to" / "reproduce-in-a-container.md").read_text()
    project = services["reproduce"]["volumes"][0]
    assert (project["target"], project["bind"]) == ("/project", {"create_host_path": False})  # or it is root's
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"`(BUS_\w+)`", page))
    script = (IMAGE / "reproduce.sh").read_text()
    assert set(services["reproduce"]["environment"]) == set(re.findall(r"\$\{([A-Z_]+):", script))


def _bare(name: str) -> str:
    return name.rstrip("/")
