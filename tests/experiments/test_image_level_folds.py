"""The stage `premium`: rows trained on image-level folds beside grouped ones, once, and nothing else."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from projects import run_stage_here
from trainings import change, finished_keys, fold_runs, ledger_of, train_here

from bus_mlops.promotion.trained_model import read_trained_model


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_rows_are_trained_on_leaking_folds_once_and_bear_their_mark(tiny_project):
    change(tiny_project, "folds", locked=0.2)
    for stage in ("folds", "leakage"):
        done = run_stage_here(stage, tiny_project)
        assert done.returncode == 0, done.stderr
    off = run_stage_here("premium", tiny_project)
    assert "skipped" in off.stdout
    folder = tiny_project / "results/premium"
    assert [path.name for path in folder.iterdir()] == ["leakage.json"]

    assert train_here(tiny_project).returncode == 0
    grouped = set(finished_keys(tiny_project))
    change(tiny_project, "leak_premium", rows=["losses/small/BCE"])
    first = run_stage_here("premium", tiny_project)
    assert first.returncode == 0, first.stderr
    assert "[leak-premium] 2 runs, 0 of them recorded already, 2 to train" in first.stdout
    leaking = set(finished_keys(tiny_project)) - grouped
    assert len(leaking) == 2
    runs = [run for run in fold_runs(tiny_project) if (run.data.tags["fingerprint"], run.data.tags["fold"]) in leaking]
    leaks = json.loads((folder / "leakage.json").read_text())["leaks"]
    assert leaks > 0
    assert {(run.data.tags["leaks"], run.data.tags["folds_kind"]) for run in runs} == {
        (f"{leaks} groups", "image-level")
    }

    judged = read_trained_model(ledger_of(tiny_project), [run.info.run_id for run in runs])
    assert (judged.lineage.leaks, judged.strategies) == (f"{leaks} groups", ())  # G0 refuses such a lineage

    files = (tiny_project / "data/folds/folds.csv", folder / "folds.csv")
    own, drawn = (pd.read_csv(path).set_index("image_id") for path in files)
    locked = own.index[own["fold_1"] == "locked"]
    assert len(locked)
    assert list(drawn.index[drawn["fold_1"] == "locked"]) == list(locked)
    frame = pd.read_parquet(folder / "leak-premium.parquet")
    assert set(frame["strategy"]) == {"losses"}
    assert not set(frame["image_id"]) & set(locked)
    assert set(frame.loc[frame["part"] == "test", "image_id"]) == set(own.index) - set(locked)

    before = (folder / "leak-premium.parquet").read_bytes()
    second = run_stage_here("premium", tiny_project)
    assert "2 of them recorded already, 0 to train" in second.stdout
    assert (folder / "leak-premium.parquet").read_bytes() == before
