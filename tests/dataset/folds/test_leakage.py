"""The leakage check: what stops, what is tolerated and counted, and the tag that every run and table carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from fold_examples import example
from projects import run_stage_here

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.leakage import check_leakage, describe, leak_tags, leaking
from bus_mlops.dataset.folds.make import make_folds, write_folds
from bus_mlops.errors import LeakageError
from bus_mlops.evaluation.report.rows import leakage_text, leaks
from bus_mlops.project import load_config
from bus_mlops.promotion.comparing import leak_check


@pytest.fixture
def torn() -> pd.DataFrame:
    """Grouped folds of two sources, one group of BUSI torn between train and test of fold 1."""
    manifest, groups = example({"busi": 60, "busis": 50})
    frame = make_folds(manifest, groups, FoldsConfig(), 0)
    busi = frame[frame["source"] == "busi"]
    train = busi.index[busi["fold_1"] == "train"][0]
    test = busi.index[busi["fold_1"] == "test"][0]
    frame.loc[frame["group"] == frame.loc[test, "group"], "group"] = frame.loc[train, "group"]
    return frame


@pytest.mark.parametrize("kind", ["grouped", "source"])
def test_our_own_folds_stop_at_a_leak(torn, kind):
    with pytest.raises(LeakageError, match=r"leakage group .* lies in more than one part"):
        check_leakage(Folds.checked(torn, "torn", kind=kind))


def test_known_leaks_are_counted_by_group_and_source(torn):
    checked = check_leakage(Folds.checked(torn, "torn", kind="official"), tolerate=True)
    assert checked["leaks"] == 1
    assert checked["leaking_cases"] == 0
    assert checked["leaking_groups"] == list(leaking(torn))
    assert "LEAKS: 1 groups and 0 cases" in describe(checked)
    both = leak_tags(torn, ["busi", "busis"])
    assert both == leak_tags(torn, ["busi"]) == {"leaks": "1 group", "validation_leaks": "1 group"}
    assert leak_tags(torn, ["busi"], divided_anew=True) == {"leaks": "1 group", "validation_leaks": "0 groups"}
    assert leak_tags(torn, ["busis"]) == {"leaks": "0 groups", "validation_leaks": "0 groups"}
    by_hand = 0
    for fold in range(1, 6):
        seen = set(torn.loc[torn[f"fold_{fold}"].isin(["train", "validation"]), "group"])
        by_hand += int(torn.loc[torn[f"fold_{fold}"] == "test", "group"].isin(seen).sum())
    assert checked["exposed_test_images"] == by_hand >= 1


def test_a_tear_between_train_and_validation_exposes_no_test_image():
    """One group in train and validation of a fold in which it is not tested: the other number, the other sentence."""
    whole = make_folds(*example({"busi": 60, "busis": 50}), FoldsConfig(), 0)
    sizes = whole["group"].value_counts()
    group = next(name for name in whole["group"] if sizes[name] > 1)
    fold = next(n for n in range(1, 6) if not (whole.loc[whole["group"] == group, f"fold_{n}"] == "test").any())
    rows = whole.index[whole["group"] == group]
    whole.loc[rows, f"fold_{fold}"] = ["validation", *["train"] * (len(rows) - 1)]
    checked = check_leakage(Folds.checked(whole, "torn", kind="official"), tolerate=True)
    assert (checked["leaks"], checked["leaking_cases"], checked["exposed_test_images"]) == (0, 0, 0)
    assert (checked["validation_leaks"], checked["exposed_validation_images"]) == (1, 1)
    assert "LEAKS" not in describe(checked)
    assert "1 groups and" in describe(checked)
    assert "1 validation images have a relative in train, which no test image meets" in describe(checked)
    assert leak_tags(whole, ["busi", "busis"]) == {"leaks": "0 groups", "validation_leaks": "1 group"}
    text = leakage_text(checked)
    assert "No test image has a case-mate or near-duplicate" in text
    assert "1 group lies in train and in validation of a fold" in text
    assert "makes no test result too good" in text
    with pytest.raises(LeakageError):
        check_leakage(Folds.checked(whole, "torn"))


def test_an_unused_image_leaks_nothing(torn):
    group = next(iter(leaking(torn)))
    for column in [name for name in torn.columns if name.startswith("fold_")]:
        inside = torn["group"] == group
        # official folds may leave images out: all but those of one part
        torn.loc[inside & (torn[column] != "train"), column] = "unused"
    folds = Folds.checked(torn, "aside", kind="official")
    assert check_leakage(folds)["leaks"] == 0
    assert check_leakage(folds)["folds"]["fold_1"]["unused"]["images"] >= 1


def test_the_gate_hears_of_leaks_of_every_kind(torn, tmp_path):
    write_folds(torn, "official", tmp_path)
    assert "lies in more than one part" in leak_check(Folds.open(tmp_path / "folds.csv"))
    whole = make_folds(*example({"busi": 60}), FoldsConfig(), 0)
    assert leak_check(Folds.checked(whole, "whole", kind="official")) == "passed"


def test_the_report_says_plainly_what_leaks():
    sound = {"kind": "grouped", "leaks": 0, "validation_leaks": 0, "exposed_test_images": 0}
    assert "No leakage group and no case lies in two parts" in leakage_text(sound)
    folds = {f"fold_{k}": {"test": {"images": 100}} for k in (1, 2)}
    found = {"kind": "image-level", "leaks": 35, "validation_leaks": 640, "exposed_test_images": 8, "folds": folds}
    text = leakage_text(found)
    assert "35 groups lie in a test part and in train or validation of the same fold: 8 of 200 test images" in text
    assert "640 groups lie in train and in validation of a fold" in text
    assert leaks(found, "validation_leaks") == "validation leaks: 640 groups"
    assert leaks({"leaks": 35}) == leaks({"leaks": "35"}) == leaks({"leaks": 35.0}) == "leaks: 35 groups"
    assert leaks({}) == leaks({"leaks": 0}) == leaks({"leaks": ""}) == leaks({"leaks": float("nan")}) == ""


def change(project: Path, **folds: Any) -> None:
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["folds"].update(folds)
    values["strategies"] = ["losses"]
    values["training"].update(epochs=1)
    values["engine"]["workers"] = 1
    path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.slow
def test_runs_tables_and_report_carry_the_tag(tiny_project, monkeypatch):
    """Image-level folds through the pipeline: training goes on, and the number stays with all that comes of it."""
    from bus_mlops.tracking.ledger import Ledger

    change(tiny_project, kind="image-level", run=[1])
    shutil.rmtree(tiny_project / "results/plan")
    for stage in ("plan", "folds", "leakage"):
        done = run_stage_here(stage, tiny_project)
        assert done.returncode == 0, done.stderr
    assert "LEAKS: " in done.stdout
    count = json.loads((tiny_project / "data/leakage.json").read_text())["leaks"]
    assert count >= 1
    for stage, arguments in (("train", ["losses"]), ("evaluate", []), ("report", [])):
        if stage == "evaluate":  # the search and what it tunes are not part of this
            (tiny_project / "results/plan/tuned-mt_estan_loss.json").unlink()
        done = run_stage_here(stage, tiny_project, *arguments)
        assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tiny_project)
    config = load_config()
    runs = Ledger(config.tracking).runs("tags.leaks != ''")
    assert {run.data.tags["kind"] for run in runs} == {"spec", "fold"}
    # all five sources train here, so the run's own number is that of all folds
    checked = json.loads((tiny_project / "data/leakage.json").read_text())
    for name in ("leaks", "validation_leaks"):
        number = checked[name]
        assert {run.data.tags[name] for run in runs} == {f"{number} group{'' if number == 1 else 's'}"}
    assert {run.data.tags["folds_kind"] for run in runs} == {"image-level"}
    table = pd.read_csv("results/tables/losses.csv")
    assert set(table["leaks"]) == {count}
    metrics = json.loads(Path("results/metrics.json").read_text())
    assert {row["leaks"] for row in metrics["losses"].values()} == {count}
    page = Path("results/report.html").read_text()
    assert "These folds leak." in page
    assert f"leaks: {count} group" in page
    assert "had seen neither" not in page
