"""docs/how-to/add-a-model.md, executed: its files are all that a new network needs, down to a trained cell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pages import blocks
from projects import ROOT

from bus_mlops.config import TrackingConfig
from bus_mlops.experiments.plan import make_plans
from bus_mlops.extensions import load_extensions
from bus_mlops.models import weights, zoo
from bus_mlops.project import load_config
from bus_mlops.testing.networks import check_network, network_spec
from bus_mlops.tracking.ledger import Ledger

PAGE = "add-a-model.md"
CNN, UNET, PARAMS = "extensions/small_cnn.py", "extensions/tiny_unet.py", "params.yaml"
TEST = "tests/test_networks.py"


@pytest.fixture(scope="module")
def project(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folded project of phantoms with the page's files in their places, and one cell to train."""
    folder, page = tmp_path_factory.mktemp("own") / "project", blocks(PAGE)
    shutil.copytree(tiny_data, folder)
    (folder / "extensions").mkdir()
    for name in (CNN, UNET):
        (folder / name).write_text(page[name])
    values = yaml.safe_load((folder / PARAMS).read_text())
    values["networks"] = yaml.safe_load(page[PARAMS])["networks"]
    values["training"]["epochs"] = 1
    values["strategies"] = ["transfer_learning"]
    values["strategy_settings"] = {"transfer_learning": {"networks": ["small_cnn"], "weights": ["random"]}}
    values["folds"]["run"] = [1]
    (folder / PARAMS).write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In the project, with its networks loaded; they are forgotten afterwards."""
    monkeypatch.chdir(project)
    load_config()
    yield project
    load_extensions(project / "nothing")


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from bus_mlops.cli import main; main()", *arguments], cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_page_is_two_files_and_a_few_lines():
    page = blocks(PAGE)
    assert set(page) == {CNN, UNET, PARAMS, TEST}
    assert all(page[name].count("@network(") == 1 for name in (CNN, UNET))
    assert len(page[CNN].splitlines()) <= 20


def test_the_files_are_formatted_and_import_what_they_use(project):
    for action in (("check", "--select", "E,F,W,B"), ("format", "--check")):
        arguments = [sys.executable, "-m", "ruff", *action, "--config", str(ROOT / "pyproject.toml"), CNN, UNET]
        done = subprocess.run(arguments, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_listed(project):
    done = command(project, "models")
    assert done.returncode == 0, done.stderr
    assert "    Small CNN: ours: four strided convolutions" in done.stdout
    assert ["tiny_unet", "multitask", "-", "-", "128", "px", "unit"] in [x.split() for x in done.stdout.splitlines()]


@pytest.mark.slow
def test_the_network_is_planned_trained_and_recorded(project):
    done = command(project, "train", "transfer_learning")
    assert done.returncode == 0, done.stdout + done.stderr
    tracking = TrackingConfig(uri=f"sqlite:///{project / 'mlflow.db'}", artifacts=str(project / "mlartifacts"))
    runs = Ledger(tracking).runs("tags.kind = 'fold'")
    assert [run.data.tags["network"] for run in runs] == ["small_cnn"]
    again = command(project, "train", "transfer_learning")
    assert "1 of them recorded already, 0 to train" in again.stdout, again.stdout + again.stderr


def test_a_changed_file_changes_the_plan_and_nothing_else_does(inside):
    before = make_plans(load_config())
    (inside / "extensions" / "other.py").write_text("# another file\n")
    assert make_plans(load_config()) == before
    path = inside / CNN
    try:
        path.write_text(path.read_text().replace("128", "96"))
        after = make_plans(load_config())
    finally:
        path.write_text(blocks(PAGE)[CNN])
    old, new = (plans["transfer_learning"].rows[0].spec for plans in (before, after))
    assert old.fingerprint("data", "folds") != new.fingerprint("data", "folds")
    assert old.model_copy(update={"code": new.code}) == new
    assert make_plans(load_config()) == before


def test_the_first_keeps_the_contract_of_networks(inside):
    check_network("small_cnn", onnx=False)


@pytest.mark.slow
def test_the_pages_own_test_passes(project):
    (project / "tests").mkdir()
    (project / TEST).write_text(blocks(PAGE)[TEST])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST], cwd=project, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_second_starts_from_imagenet_and_has_an_option(inside, imagenet_weights):
    spec = network_spec("tiny_unet", None, weights="imagenet")
    values = weights.pretrained_values(zoo.build(spec), spec, imagenet_weights)
    assert sum(value.size for value in values.values()) == 3_228_864
    assert zoo.entry("tiny_unet").title({"filters": 8}) == "Tiny U-Net (filters 8)"
    wider = zoo.build(spec.model_copy(update={"options": {"filters": 32}}))
    assert wider.get_layer("up2_conv").filters == 32
