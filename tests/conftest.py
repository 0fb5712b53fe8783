"""What tests share: the demo's parameters made small, and real images and weights if they are there."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import yaml
from long_files import turn
from made_once import made_once, make_empty_store
from PIL import Image
from projects import BUSI, WEIGHTS, run_stage_here, small_profile, tiny_values
from promotion_store import Store, copy_store, make_store, open_store
from small_network import use_small_network
from tiny_package import SIZE, TinyRegistry, speckle, write_tiny_members, write_tiny_package

from bus_mlops import environment
from bus_mlops.config import Config
from bus_mlops.project import parse_config

# As an entry point of ours does.
environment.quiet()

# How long an example takes says how busy the machine is, no more.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")
# What only another version of a library can break needs no hundred examples: --hypothesis-profile brief.
hypothesis.settings.register_profile("brief", deadline=None, max_examples=20)

# A module that names one of these, or a test with such a fixture, does what takes seconds: it starts processes, makes
# an MLflow store, assembles images or renders reports.
STARTERS = {
    *("subprocess", "run_stage_script", "run_stage_here", "dvc_environment", "s3_server"),
    *("tiny_data", "empty_store", "recorded"),
}
WHOLE_STEPS = {"MlflowClient", "Ledger", "open_client", "assemble", "render_report"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files; mark as `pipeline`, which `make quick` leaves out, what runs stages or servers."""
    items.sort(key=lambda item: turn(item.path.name))
    for item in items:
        names = {*getattr(item, "fixturenames", ()), *vars(getattr(item, "module", object))}
        if (STARTERS | WHOLE_STEPS) & names:
            item.add_marker(pytest.mark.pipeline)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Commands run within a test decide what is shown; the next test begins without that."""
    ours = logging.getLogger("bus_mlops")
    before = ours.handlers, ours.level, ours.propagate
    yield
    ours.handlers, level, ours.propagate = before
    ours.setLevel(level)


@pytest.fixture
def demo_values() -> dict[str, Any]:
    """A whole small profile as a mapping, free to change."""
    return small_profile()


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
def empty_store(request: pytest.FixtureRequest) -> Path:
    """MLflow's SQLite file without a run; a copy takes no time, and MLflow's migrations take seconds."""
    return made_once(request, "empty-store", make_empty_store) / "mlflow.db"


@pytest.fixture(scope="session")
def new_database(empty_store: Path) -> bytes:
    """The content of `empty_store`."""
    return empty_store.read_bytes()


@pytest.fixture(scope="session")
def tiny_data(request: pytest.FixtureRequest) -> Path:
    """A project folder with phantoms, assembled, audited and folded; copy it before changing it."""
    return made_once(request, "tiny", _make_tiny_data)


def _make_tiny_data(folder: Path) -> None:
    values = tiny_values(small_profile())
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for stage in ("plan", "phantom", "assemble", "audit", "folds", "leakage"):
        done = run_stage_here(stage, folder)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def tiny_project(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_data` of the test's own."""
    folder = tmp_path / "project"
    shutil.copytree(tiny_data, folder)
    return folder


@pytest.fixture
def small_network(tiny_project: Path, empty_store: Path) -> None:
    """`losses` of `tiny_project` trains a network of a few layers, recorded in a store that is there already."""
    use_small_network(tiny_project)
    shutil.copy(empty_store, tiny_project)


@pytest.fixture(scope="session")
def members(request: pytest.FixtureRequest) -> list[Path]:
    """Two tiny networks as `.keras` files."""
    return sorted(made_once(request, "networks", write_tiny_members).iterdir())


@pytest.fixture(scope="session")
def package_folder(request: pytest.FixtureRequest, members: list[Path]) -> Path:
    """The package of two tiny networks; copy it before changing it."""
    return made_once(request, "package", lambda folder: write_tiny_package(folder / "tiny", members)) / "tiny"


@pytest.fixture(scope="session")
def tiny_registry(tmp_path_factory, package_folder, empty_store) -> TinyRegistry:
    import mlflow

    from bus_mlops.packaging.package import log_package

    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{shutil.copy(empty_store, folder)}"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("tiny", (folder / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    for verdict in ("refused: G1", "passed"):
        version = log_package(
            package_folder,
            registered_name="tiny-phantom",
            run_id=run,
            tags={"gate": verdict},
            tracking_uri=uri,
        )
    client.set_registered_model_alias("tiny-phantom", "champion", version.version)
    return TinyRegistry(uri, "tiny-phantom", run, folder / "artifacts")


@pytest.fixture(scope="session")
def recorded(request, members, empty_store) -> Store:
    """A project whose runs are recorded and of which nothing was promoted; for copies."""

    def make(folder: Path) -> None:
        shutil.copy(empty_store, folder)
        make_store(folder, members)

    return open_store(made_once(request, "recorded", make))


@pytest.fixture(scope="module")
def store(tmp_path_factory, recorded) -> Store:
    """A project with a registry of the module's own."""
    return copy_store(recorded, tmp_path_factory.mktemp("project"))


@pytest.fixture
def scans(tmp_path) -> list[Path]:
    """A gray PNG, a colour JPEG and a square of the network's own size; odd sides."""
    folder = tmp_path / "scans"
    folder.mkdir()
    gray, color, square = folder / "gray.png", folder / "colour.jpg", folder / "square.png"
    Image.fromarray(speckle(101, 147, 1)).save(gray)
    Image.fromarray(np.stack([speckle(90, 61, s) for s in (2, 3, 4)], axis=-1)).save(color)
    Image.fromarray(speckle(SIZE, SIZE, 5)).save(square)
    return [gray, color, square]
