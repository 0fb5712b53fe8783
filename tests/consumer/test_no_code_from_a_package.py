"""A package that brings Python, pickles and networks with functions: nothing of it is run by our own client."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tiny_package import speckle
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.consumer import export as bundle
from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.package_files import open_package, write_sums
from bus_mlops.packaging.clean_load import check_package, packaged
from bus_mlops.packaging.package import log_package
from bus_mlops.promotion.registration import check_files
from bus_mlops.serving.app import create_app
from bus_mlops.serving.limits import Limits

# Names that something might import, from the package's folder or beside it.
MODULES = ("__init__", "__main__", "bus_mlops", "conftest", "loader", "numpy", "onnxruntime", "sitecustomize", "yaml")


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that hostile code writes."""
    return tmp_path / "it-was-run"


@pytest.fixture
def hostile(package_folder, tmp_path, mark) -> Path:
    """A package of an attacker, who has written its checksums as well."""
    folder = Path(shutil.copytree(package_folder, tmp_path / "hostile"))
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    for where in (folder, folder / "members", folder / "extensions"):
        where.mkdir(exist_ok=True)
        for name in MODULES:
            (where / f"{name}.py").write_text(code)
        (where / "model.pkl").write_bytes(pickle.dumps(Trap(mark)))
        (where / "python_model.pkl").write_bytes(pickle.dumps(Trap(mark)))
    for network in (folder / "members").glob("*.keras"):
        network.write_bytes(pickle.dumps(Trap(mark)))
    write_sums(folder)
    return folder


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    folder.mkdir()
    lines = ["file,label,patient"]
    for number in range(16):
        Image.fromarray(speckle(40, 50, number)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'malignant' if number % 4 < 2 else 'benign'},p{number}")
    (folder / "cases.csv").write_text("\n".join(lines))
    return folder


def test_nothing_of_it_is_run(hostile, mark, cases, scans, tmp_path, monkeypatch, empty_store):
    monkeypatch.setenv("BUS_MLOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(hostile)
    model = load_model(hostile)
    assert model.predict(scans[:1], masks=True, explanations=True)[0].probability is not None
    create_app(model, Limits())
    bundle.export(str(hostile), str(tmp_path / "exported"))
    for command in (["predict", "-m", hostile, scans[0]], ["accept", hostile, cases, "--k", 4]):
        done = CliRunner().invoke(app, [str(each) for each in command], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert not mark.exists()
    import mlflow

    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'store.db')}"
    client = mlflow.MlflowClient(uri)
    run = client.create_run(client.create_experiment("x", (tmp_path / "artifacts").as_uri())).info.run_id
    version = log_package(hostile, registered_name="tiny-phantom", run_id=run, tracking_uri=uri)
    # What MLflow itself would run, exchanged in the store: no sum of the package is of it.
    trap = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    shells = list((tmp_path / "artifacts").rglob("pyfunc_model.py"))
    for shell in shells:
        shell.write_text(shell.read_text() + trap)
    assert shells
    mark.unlink(missing_ok=True)
    assert load_model("models:/tiny-phantom/1", uri).predict(scans[:1])[0].probability is not None
    bundle.pull("models:/tiny-phantom/1", uri)
    checked = check_files(client, version)  # as `bus-mlops verify` does
    open_package(packaged(checked))
    assert check_package(checked).error in (None, "")
    assert not mark.exists()
    # That the trap is one: MLflow's own loader runs what it finds.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.pyfunc.load_model(str(checked))
    assert mark.exists()
