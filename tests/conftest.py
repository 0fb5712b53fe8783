"""What tests share: the demo's parameters made small, and where real images and weights lie if they are there."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Config, parse_config

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
BUSI = SHARED / "data" / "busi"
WEIGHTS = SHARED / "weights"


@pytest.fixture
def demo_values() -> dict[str, Any]:
    """The demo profile as a mapping, free to change."""
    return copy.deepcopy(yaml.safe_load(profiles.text("demo")))


@pytest.fixture
def demo(demo_values: dict[str, Any]) -> Config:
    return parse_config(demo_values)


@pytest.fixture
def real_busi() -> Path:
    """The folder that holds real BUSI images as `busi/`; skips where they are not to be had."""
    if not BUSI.is_dir():
        pytest.skip("real BUSI images are not here (../shared/data/busi)")
    return BUSI.parent


@pytest.fixture
def imagenet_weights() -> Path:
    """A folder with ImageNet weights; skips where they are not to be had."""
    if not WEIGHTS.is_dir():
        pytest.skip("ImageNet weights are not here (../shared/weights)")
    return WEIGHTS


def run_stage_script(
    name: str, folder: Path, *arguments: str, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run one of pipelines/*.py in a project folder, as DVC does."""
    command = [sys.executable, str(ROOT / "pipelines" / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)


def tiny_values(values: dict[str, Any]) -> dict[str, Any]:
    """The demo's parameters, as small as they can be with every step still real."""
    values["phantom"] = {
        "images": {"hmss": 12, "busi": 26, "busis": 20, "thammasat": 8, "dataset_b": 8},
        "near_duplicates": 3,
        "size": 72,
    }
    values["folds"]["count"] = 2
    values["training"].update({"epochs": 2, "input_size": 64})
    values["networks"]["mt_estan"]["options"] = {"encoder": "mobilenet", "width": 0.0625}
    values["search"]["trials"] = 2
    return values


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with phantoms, assembled, audited and folded; copy it before changing it."""
    folder = tmp_path_factory.mktemp("tiny")
    values = tiny_values(yaml.safe_load(profiles.text("demo")))
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for stage in ("plan", "phantom", "assemble", "audit", "folds", "leakage"):
        done = run_stage_script(stage, folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def tiny_project(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_data` of the test's own."""
    folder = tmp_path / "project"
    shutil.copytree(tiny_data, folder)
    return folder
