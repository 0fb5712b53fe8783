"""Project folders for tests: small parameters, stage scripts run as DVC runs them, where real data may lie."""

from __future__ import annotations

import io
import os
import runpy
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from bus_mlops.extensions import load_extensions

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
BUSI = SHARED / "data" / "busi"
WEIGHTS = SHARED / "weights"

# What a clone has that the stages depend on or run.
CODE = ("bus_mlops", "pipelines", "extensions", "dvc.yaml", ".dvcignore", "data/folds-official")


def copy_code(folder: Path) -> None:
    """Put into a project folder what `dvc repro` needs of a clone: the package, the stages and their scripts."""
    for name in CODE:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def dvc_environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a `dvc` in the project: its own copy of the package, the interpreter that runs the tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1", **variables}


def run_stage_script(
    name: str, folder: Path, *arguments: str, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run one of pipelines/*.py in a project folder, as DVC does."""
    command = [sys.executable, str(ROOT / "pipelines" / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)


def run_stage_here(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported everything already; the project's extensions are forgotten then.

    What its workers write to standard output and error themselves is not among what it gives back.
    """
    command = [str(ROOT / "pipelines" / f"{name}.py"), *arguments]
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with chdir(folder), mock.patch.object(sys, "argv", command), redirect_stdout(output), redirect_stderr(errors):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            load_extensions(folder / "nothing")
    return subprocess.CompletedProcess(command, code, output.getvalue(), errors.getvalue())


def small_profile() -> dict[str, Any]:
    """A whole profile on whose values tests count, as a mapping; `profile` is demo."""
    values: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("small_profile.yaml").read_text(encoding="utf-8"))
    return values


def tiny_values(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a small profile, as small as they can be with every step still real."""
    values["phantom"] = {
        "images": {"hmss": 12, "busi": 26, "busis": 20, "thammasat": 8, "dataset_b": 8},
        "near_duplicates": 3,
        "size": 72,
    }
    values["folds"]["count"] = 2
    values["training"].update({"epochs": 2, "input_size": 64})
    values["networks"] = {
        name: values["networks"][name] for name in ("mobilenet", "mobilenet_multitask", "mt_estan", "estan")
    }
    values["networks"]["mt_estan"].update(options={"encoder": "mobilenet", "width": 0.0625}, epochs=2)
    values["networks"]["estan"].update(options={"width": 0.0625}, epochs=1, input_size=32)
    values["strategies"] = ["losses", "multitask", "approaches"]
    values["strategy_settings"]["losses"].update(positive_weights=[3], gammas=[], alphas=[])
    values["searches"] = {"mt_estan_loss": {**values["searches"]["mt_estan_loss"], "trials": 2}}
    values["probes"].update(rows=["candidate"], images=4, failures=1, corruptions=["blur", "fgsm"], strengths=[1.0])
    values["probes"]["cost"] = "none"  # each network would be traced and exported
    values["engine"]["workers"] = 1  # each worker imports TensorFlow and traces every network for itself
    return values


def plant_conflict(folder: Path) -> str:
    """Give one image of a near-duplicate pair the other label, in the manifest of an audited project; its id."""
    import pandas as pd

    path = folder / "data" / "benchmark" / "manifest.csv"
    manifest = pd.read_csv(path, dtype={"name": str})
    image = str(pd.read_csv(folder / "data" / "audit" / "pairs.csv")["other"].iloc[0])
    row = manifest["image_id"] == image
    manifest.loc[row, "label"] = 1 - manifest.loc[row, "label"]
    manifest.to_csv(path, index=False)
    done = run_stage_script("audit", folder)
    assert done.returncode == 0, done.stderr
    return image
