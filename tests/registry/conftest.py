"""A tiny ensemble: packaged, logged to its own MLflow store and promoted, once a session."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from promotion_store import Store, copy_store, make_store
from tiny_package import SIZE, TinyRegistry, speckle

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def tiny_registry(tmp_path_factory, package_folder) -> TinyRegistry:
    import mlflow

    from bus_mlops.registry.package import log_package

    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
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
def recorded(tmp_path_factory, members) -> Store:
    """A project whose runs are recorded and of which nothing was promoted; for copies."""
    return make_store(tmp_path_factory.mktemp("recorded"), members)


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
