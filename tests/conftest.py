"""What tests share: the demo's parameters made small, and real images and weights if they are there."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import BUSI, WEIGHTS, run_stage_script, tiny_values
from tiny_package import write_tiny_members, write_tiny_package

from bus_mlops import profiles
from bus_mlops.config import Config, parse_config


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


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tiny networks as `.keras` files."""
    return write_tiny_members(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def package_folder(tmp_path_factory: pytest.TempPathFactory, members: list[Path]) -> Path:
    """The package of two tiny networks; copy it before changing it."""
    return write_tiny_package(tmp_path_factory.mktemp("package") / "tiny", members)
