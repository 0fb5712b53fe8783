"""The library leaves the environment of its host program as it was; entry points set it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from projects import ROOT

from bus_mlops import environment, profiles
from bus_mlops.packaging.clean_load import link_base_install

# Those that make a worker process what it has to be, before TensorFlow starts.
WRITERS = {
    "environment.py",
    "experiments/engines/ray_engine.py",
    "training/process.py",
}
# Each would change where something is read or written, what is recorded, or how.
REDIRECTING = (
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE",
    "MLFLOW_TRACKING_DIR",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_ENABLE_WORKSPACES",
    "MLFLOW_ENABLE_ASYNC_LOGGING",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING",
    "MLFLOW_SQLALCHEMYSTORE_ECHO",
    "MLFLOW_ACTIVE_MODEL_ID",
)
CONSUMER = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib, json, os, pkgutil
before = dict(os.environ)
import bus_mlops, bus_mlops.consumer, bus_mlops.images
bus_mlops.load_model
for package in (bus_mlops.consumer, bus_mlops.images):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import bus_mlops.cli.app
changed = {name for name, value in os.environ.items() if before.get(name) != value} | set(before) - set(os.environ)
ours = sorted(name.split(".")[1] for name in sys.modules if name.startswith("bus_mlops.") and name.count(".") == 1)
print(json.dumps({"changed": sorted(changed), "ours": ours, "heavy": sorted({"mlflow", "numpy"} & set(sys.modules))}))
"""


@pytest.fixture(scope="module")
def base_install(tmp_path_factory) -> Path:
    """A folder with the base install's packages and no others."""
    site = tmp_path_factory.mktemp("base") / "site"
    link_base_install(site)
    return site


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in environment.PROCESS}


def test_importing_what_a_consumer_imports_changes_nothing(base_install, tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CONSUMER, str(base_install)],
        cwd=tmp_path,
        env=bare_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["changed"] == []
    assert not {"config", "extensions", "project", "tracking"} & set(answer["ours"])


def test_no_other_module_writes_to_the_environment():
    writes = re.compile(r"os\.environ(\[[^]]+\] *=[^=]|\.(setdefault|update|pop)\()|os\.(putenv|unsetenv)\(")
    package = ROOT / "bus_mlops"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if writes.search(path.read_text())}
    assert found == WRITERS


def test_a_stage_seldom_looks_for_garbage_and_the_library_as_python_does(tmp_path):
    code = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 10_000))  # what is registered first comes last
first = gc.get_threshold()
from bus_mlops.entry import run_stage
import bus_mlops.project
assert gc.get_threshold() == first
run_stage(lambda config: print(gc.get_threshold()[0] > 10_000 > first[0] and not gc.get_freeze_count()))
"""
    (tmp_path / "params.yaml").write_text(profiles.text("demo"))
    given = {**bare_environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=given, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.mark.parametrize("entry", ["from bus_mlops.cli import main; main()", "from bus_mlops.entry import run_stage"])
def test_entry_points_quiet_their_process(entry, tmp_path):
    call = "" if "main()" in entry else "\nrun_stage(lambda config: None)"
    code = f"""
import json, os, sys
sys.argv[1:] = ["--version"]
try:
    exec({entry + call!r})
except SystemExit:
    pass
print(json.dumps(dict(os.environ)))
"""
    given = {**bare_environment(), "AWS_EC2_METADATA_DISABLED": "false", "PYTHONPATH": str(ROOT)}
    given |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=given, capture_output=True, text=True)
    after = json.loads(done.stdout.splitlines()[-1])
    expected = {**environment.PROCESS, "AWS_EC2_METADATA_DISABLED": "false"}
    assert {name: after.get(name) for name in environment.PROCESS} == expected
    assert "ONEDNN_MAX_CPU_ISA" not in after
    assert after["KERAS_BACKEND"] == "tensorflow"


@pytest.mark.parametrize(
    ("name", "changes"),
    {
        "TF_ENABLE_ONEDNN_OPTS": True,
        "TF_XLA_FLAGS": True,
        "TF_NUM_INTRAOP_THREADS": True,
        "TF_USE_LEGACY_KERAS": True,
        "TF_CUDNN_USE_AUTOTUNE": True,
        "XLA_FLAGS": True,
        "ONEDNN_MAX_CPU_ISA": True,
        "DNNL_DEFAULT_FPMATH_MODE": True,
        "NVIDIA_TF32_OVERRIDE": True,
        "KERAS_BACKEND": True,
        "KERAS_MAX_EPOCHS": True,
        "NPY_DISABLE_CPU_FEATURES": True,
        "GLIBC_TUNABLES": True,
        "TF_CPP_MIN_LOG_LEVEL": False,
        "TF_FORCE_GPU_ALLOW_GROWTH": False,
        "TF_CLI_CONFIG_FILE": False,
        "TF_VAR_region": False,
        "ONEDNN_VERBOSE": False,
        "KERAS_HOME": False,
        "CUDA_VISIBLE_DEVICES": False,
        "OMP_NUM_THREADS": False,
        "PYTHONHASHSEED": False,
        "MLFLOW_TRACKING_URI": False,
    }.items(),
)
def test_which_variables_change_numbers(name, changes):
    assert environment.changing_numbers({name: "1"}) == ({name: "1"} if changes else {})


def test_what_is_taken_away_is_told_once(monkeypatch):
    environment.overridden()
    monkeypatch.setenv("XLA_FLAGS", "--x")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    environment.fix_numbers()
    assert not {"XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS"} & set(os.environ)
    assert environment.overridden().endswith(": TF_ENABLE_ONEDNN_OPTS=0, XLA_FLAGS=--x")
    environment.fix_numbers()
    assert environment.overridden() == ""


def test_keras_and_tensorflow_are_imported_in_one_place_only():
    package = ROOT / "bus_mlops"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) (keras|tensorflow)\b", path.read_text(), re.MULTILINE)
    }
    assert found == {"models/framework.py"}


class TestReplaced:
    def test_values_come_back_also_after_an_error(self, monkeypatch):
        monkeypatch.delenv("BUS_MLOPS_ONE", raising=False)
        monkeypatch.setenv("BUS_MLOPS_TWO", "the user's")
        with suppress(ValueError), environment.replaced({"BUS_MLOPS_ONE": "1", "BUS_MLOPS_TWO": "2"}):
            assert (os.environ["BUS_MLOPS_ONE"], os.environ["BUS_MLOPS_TWO"]) == ("1", "2")
            raise ValueError
        assert "BUS_MLOPS_ONE" not in os.environ
        assert os.environ["BUS_MLOPS_TWO"] == "the user's"


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        *((name, True) for name in REDIRECTING),
        *((name, False) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_S3_ENDPOINT_URL")),
        *((name, False) for name in (*environment.PROCESS, "MLFLOW_WORKSPACE", "MLFLOW_HTTP_REQUEST_TIMEOUT", "PATH")),
    ],
)
def test_variables_that_lead_mlflow_elsewhere_are_dropped_with_a_warning(name, dropped, monkeypatch, caplog):
    for other in [other for other in os.environ if other.startswith("MLFLOW_")]:
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, "elsewhere")
    environment.quiet()
    assert (name not in os.environ) == dropped
    assert [name in record.getMessage() for record in caplog.records] == [True] * dropped


def test_what_mlflow_leaves_to_its_children_is_not_told(monkeypatch, caplog):
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    environment.quiet()
    assert "_MLFLOW_IS_IN_SERVING_ENVIRONMENT" not in os.environ
    assert caplog.records == []


class TestSettings:
    def test_are_taken_back_also_after_an_error(self, monkeypatch):
        monkeypatch.delenv("BUS_MLOPS_ONE", raising=False)
        monkeypatch.setenv("BUS_MLOPS_TWO", "the user's")

        def fail() -> None:
            with environment.settings({"BUS_MLOPS_ONE": "1", "BUS_MLOPS_TWO": "2"}):
                assert (os.environ["BUS_MLOPS_ONE"], os.environ["BUS_MLOPS_TWO"]) == ("1", "the user's")
                raise ValueError

        with pytest.raises(ValueError, match=r"^$"):
            fail()
        assert "BUS_MLOPS_ONE" not in os.environ
        assert os.environ["BUS_MLOPS_TWO"] == "the user's"

    def test_one_inside_the_other(self, monkeypatch):
        monkeypatch.delenv("BUS_MLOPS_ONE", raising=False)
        with environment.settings({"BUS_MLOPS_ONE": "1"}):
            with environment.settings({"BUS_MLOPS_ONE": "2"}):
                assert os.environ["BUS_MLOPS_ONE"] == "1"
            assert os.environ["BUS_MLOPS_ONE"] == "1"
        assert "BUS_MLOPS_ONE" not in os.environ

    def test_of_two_threads_the_last_one_takes_them_away(self, monkeypatch):
        monkeypatch.delenv("BUS_MLOPS_ONE", raising=False)
        first, second = (environment.settings({"BUS_MLOPS_ONE": "1"}) for _ in range(2))
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert os.environ["BUS_MLOPS_ONE"] == "1"
        second.__exit__(None, None, None)
        assert "BUS_MLOPS_ONE" not in os.environ
