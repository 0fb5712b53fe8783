"""docs/how-to/add-a-strategy.md, executed: one file, and the strategy is planned, tabled and shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pages import blocks
from projects import ROOT, run_stage_script

from bus_mlops.evaluation.results import seal
from bus_mlops.experiments.collect import collect_nothing
from bus_mlops.files import read_json

PAGE = "add-a-strategy.md"
OWN, PARAMS, TEST = "extensions/input_sizes.py", "params.yaml", "test_input_sizes.py"


@pytest.fixture(scope="module")
def project(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folded project of phantoms with the page's files in their places, planned."""
    folder, page = tmp_path_factory.mktemp("strategy") / "project", blocks(PAGE)
    shutil.copytree(tiny_data, folder)
    (folder / "extensions").mkdir()
    for name in (OWN, TEST):
        (folder / name).write_text(page[name])
    values = yaml.safe_load((folder / PARAMS).read_text())
    own = yaml.safe_load(page[PARAMS])
    values["networks"] = {"mobilenet": {}}
    values["strategies"] = own["strategies"]
    values["strategy_settings"].update(own["strategy_settings"])
    (folder / PARAMS).write_text(yaml.safe_dump(values))
    shutil.rmtree(folder / "results")
    run(folder, "plan")
    return folder


def run(folder: Path, stage: str) -> str:
    done = run_stage_script(stage, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def predict(folder: Path, strategy: str) -> None:
    """Made-up predictions of every planned row, as a training stage leaves them."""
    plan = read_json(folder / "results" / "plan" / f"{strategy}.json")
    folds = pd.read_csv(folder / "data" / "folds" / "folds.csv")
    collect_nothing(strategy, folder / "results" / "predictions")
    path = folder / "results" / "predictions" / f"{strategy}.parquet"
    frames = []
    for i, row in enumerate(plan["rows"]):
        rng = np.random.default_rng(i)
        for fold in plan["folds"]:
            part = folds[f"fold_{fold}"]
            chosen = part.isin(["test", "validation"]) & folds["source"].isin(row["spec"]["cohort"])
            frame = folds[chosen].assign(part=part, fold=fold, seed=plan["seeds"][0])
            frame["probability"] = np.clip(0.3 * frame["label"] + 0.7 * rng.random(len(frame)), 0, 1)
            frames.append(
                frame.assign(
                    strategy=strategy, model=row["model"], variant=row["variant"], network=row["spec"]["network"],
                    fingerprint=f"{strategy} {i}", case_id=frame["image_id"],
                    dice=np.nan, iou=np.nan, hd95=np.nan, nsd=np.nan,
                )
            )  # fmt: skip
    pd.concat(frames)[list(pd.read_parquet(path).columns)].to_parquet(path)
    seal(path.parent, strategy, {})


def test_the_page_is_one_file_and_a_few_lines():
    page = blocks(PAGE)
    assert set(page) == {OWN, PARAMS, TEST}
    assert page[OWN].count("@strategy(") == 1
    assert len(page[OWN].splitlines()) <= 25


def test_the_files_are_formatted_and_import_what_they_use(project):
    config = str(ROOT / "pyproject.toml")
    for action in (("check", "--select", "E,F,W,B"), ("format", "--check")):
        python(project, "-m", "ruff", *action, "--config", config, OWN, TEST)


def test_it_keeps_the_contract(project):
    python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST)


def test_it_is_planned_and_its_typos_are_named(project):
    plan = read_json(project / "results" / "plan" / "input_sizes.json")
    assert [row["variant"] for row in plan["rows"]] == ["32 px, from scratch", "64 px, from scratch"]
    assert [row["spec"]["training"]["input_size"] for row in plan["rows"]] == [32, 64]
    shown = python(project, "-c", "from bus_mlops.cli import main; main()", "plan")
    assert "input_sizes" in shown
    values = (project / PARAMS).read_text()
    (project / PARAMS).write_text(values.replace("sizes:\n    - 32", "size:\n    - 32"))
    refused = run_stage_script("plan", project)
    (project / PARAMS).write_text(values)
    assert refused.returncode == 1
    assert "unknown key 'strategy_settings.input_sizes.size': did you mean 'sizes'?" in refused.stderr


def test_it_has_a_table_and_its_place_in_report_and_summary(project):
    for strategy in ("losses", "input_sizes"):
        predict(project, strategy)
    printed = run(project, "evaluate")
    assert "input_sizes: 2 rows" in printed
    run(project, "report")
    report = (project / "results" / "report.html").read_text()
    assert "<h2>Input sizes</h2>" in report
    assert "The same networks on small and on large images." in report
    order = [report.index(f'<section id="{name}">') for name in ("losses", "input_sizes")]
    assert order == sorted(order)
    summary = python(project, "-c", "from bus_mlops.cli import main; main()", "summary")
    assert "64 px" in summary


@pytest.mark.slow
def test_it_is_trained(project):
    done = run_stage_script("train", project, "input_sizes", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    frame = pd.read_parquet(project / "results" / "predictions" / "input_sizes.parquet")
    assert set(frame["variant"]) == {"32 px, from scratch", "64 px, from scratch"}
