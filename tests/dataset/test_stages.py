"""The stage scripts of the data, run as DVC runs them: own process, project folder as working folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARAMS = {
    "profile": "test",
    "seed": 1,
    "data": {"kind": "phantom", "root": "data/phantom", "sources": "all"},
    "phantom": {"images": {"hmss": 30, "busi": 30, "dataset_b": 12}, "near_duplicates": 6, "size": 64},
    "folds": {"count": 3},
    "cohorts": {"all": ["hmss", "busi", "dataset_b"], "multitask": ["busi"]},
    "networks": {},
    "strategies": ["approaches"],
    "searches": {},
}


def run(stage: str, project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "pipelines" / f"{stage}.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "results" / "plan").mkdir(parents=True)
    (folder / "results" / "plan" / "sizes.json").write_text('{"sizes": [32, 48]}')
    for stage in ("phantom", "assemble", "audit", "folds", "leakage"):
        done = run(stage, folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    return folder


def test_the_stages_write_what_later_ones_read(project):
    assert json.loads((project / "data/benchmark/benchmark.json").read_text())["sizes"] == [32, 48]
    groups = pd.read_csv(project / "data/audit/groups.csv")
    assert len(groups) == 72
    assert json.loads((project / "data/audit/audit.json").read_text())["near_duplicate_pairs"] == 6
    folds = pd.read_csv(project / "data/folds/folds.csv")
    assert list(folds.columns)[:5] == ["image_id", "source", "label", "case_id", "group"]
    assert json.loads((project / "data/leakage.json").read_text())["leaks"] == 0


def test_a_leak_stops_the_stage_with_one_message_and_exit_code_1(project):
    path = project / "data/folds/folds.csv"
    before = path.read_text()
    frame = pd.read_csv(path)
    torn = frame[frame.groupby("group")["image_id"].transform("size") > 1].iloc[0]
    test = next(k for k in (1, 2, 3) if torn[f"fold_{k}"] == "test")
    other = test % 3 + 1
    row = frame["image_id"] == torn["image_id"]
    frame.loc[row, [f"fold_{test}", f"fold_{other}"]] = ["train", "test"]
    frame.to_csv(path, index=False)
    try:
        done = run("leakage", project)
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert torn["image_id"] in done.stderr
    assert torn["group"] in done.stderr


def test_a_missing_source_is_one_message_that_names_its_folder(project, tmp_path):
    values = PARAMS | {"data": {"kind": "real", "root": "raw", "sources": ["busi"]}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "results" / "plan").mkdir(parents=True)
    (tmp_path / "results" / "plan" / "sizes.json").write_text('{"sizes": [32]}')
    done = run("assemble", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: raw/busi not found")
    assert "Traceback" not in done.stderr
