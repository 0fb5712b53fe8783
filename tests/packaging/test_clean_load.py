"""The clean process is clean, the package answers in it, and a changed package or model is told by the reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.consumer.package_files import read_package, write_sums
from bus_mlops.consumer.package_format import ARTIFACT, EXAMPLE_PREDICTION
from bus_mlops.packaging.clean_load import TRAINING_ONLY, base_install, check_package, link_base_install, packaged
from bus_mlops.packaging.pyfunc import pyfunc_options


@pytest.fixture(scope="module")
def saved(tmp_path_factory, package_folder) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    options = pyfunc_options(package_folder, read_package(package_folder))
    mlflow.pyfunc.save_model(str(folder), artifacts={ARTIFACT: str(package_folder)}, **options)
    return folder


@pytest.fixture
def model(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_a_package_answers_without_the_training_extras(saved):
    check = check_package(saved)
    assert (check.error, check.unsigned, check.importable, check.members) == ("", (), (), 2)
    assert check.difference <= 1e-4


def test_the_base_install_has_what_predicts_and_nothing_that_trains():
    names = {found.metadata["Name"].lower() for found in base_install()}
    assert {"onnxruntime", "numpy", "pillow", "mlflow-skinny", "pydantic", "typer"} <= names
    assert not {"tensorflow", "tensorflow-cpu", "keras", "dvc", "optuna", "scikit-learn", "mlflow"} & names


def test_the_base_install_is_enough_to_predict_export_pull_and_read(tmp_path):
    """And a command that needs more says what to install."""
    link_base_install(tmp_path / "site")
    (tmp_path / "params.yaml").write_text(profiles.text("busi"))

    def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        code = f"import sys; sys.path.insert(0, sys.argv.pop(1)); {code}"
        command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "site"), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    heavy = {*TRAINING_ONLY, "pandas", "scipy", "sqlalchemy"}
    imported = python(
        "import bus_mlops.cli.app, bus_mlops.promotion.records, bus_mlops.promotion.aliases; "
        "from bus_mlops import load_model; from bus_mlops.consumer.export import export, pull; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    assert imported.stdout == "[]\n", imported.stderr
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\x00")
    asked = {
        "pandas": (["gate"], ["promote"], ["verify", "1"], ["history"]),
        "scipy": (["plan"],),  # says what the gate can see
        "sqlalchemy": (["reconcile"], ["rollback", "--reason", "it was better"]),
        "flask": (["ui"],),
        "tensorflow": (["train"],),
    }
    for package, commands in asked.items():
        for command in commands:
            refused = python("from bus_mlops.cli import main; main()", *command)
            assert refused.returncode == 1
            assert refused.stderr.startswith(
                f"error: this needs the Python package {package!r}, which is not installed"
            )
            assert refused.stderr.endswith("pip install 'bus-mlops[train]'.\n")
            assert len(refused.stderr.splitlines()) == 1


def test_a_package_that_answers_otherwise_or_was_changed_fails_with_the_reason(model):
    package = packaged(model)
    stored = json.loads((package / EXAMPLE_PREDICTION).read_text())
    text = json.dumps(stored).replace(json.dumps(stored["probability"]), json.dumps(1 - stored["probability"]))
    (package / EXAMPLE_PREDICTION).write_text(text)
    tampered = check_package(model)
    assert EXAMPLE_PREDICTION in tampered.error
    assert "was changed" in tampered.error
    write_sums(package)
    other = check_package(model)
    assert other.error == ""
    assert other.difference > 1e-4


def test_a_model_without_a_signature_or_a_package_fails(model):
    described = yaml.safe_load((model / "MLmodel").read_text())
    del described["signature"]
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    shutil.rmtree(packaged(model))
    check = check_package(model)
    assert check.unsigned == ("inputs", "outputs")
    assert "holds no package" in check.error
