"""`bus-mlops search`: before a search has begun, while it is at work, and after it has ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from made_once import store_in
from searched import make_result, tell
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.config.searches import Search
from bus_mlops.error_messages import readable_errors
from bus_mlops.experiments.search_plan import SearchPlan
from bus_mlops.files import write_json
from bus_mlops.search import status
from bus_mlops.tracking.ledger import Ledger

SEARCHES: dict[str, Any] = {
    "mt_estan_loss": {
        "network": "mt_estan",
        "strategy": "approaches",
        "space": {
            "loss.classification_weight": {"low": 0.5, "high": 5},
            "loss.kind": ["cross_entropy", "focal"],
            "loss.gamma": {"low": 1, "high": 5, "when": {"loss.kind": "focal"}},
        },
        "trials": 6,
    },
    "width": {
        "network": "mt_estan",
        "strategy": "approaches",
        "sampler": "grid",
        "space": {"options.width": [0.125, 0.25]},
        "trials": None,
    },
}
FAILED = make_result(folds=(1, 2), trials=5, state=lambda number: {1: "pruned", 3: "failed"}.get(number, "complete"))


@pytest.fixture
def project(tmp_path, demo_values, monkeypatch) -> Path:
    """A project folder with two searches; nothing has run."""
    demo_values["searches"] = SEARCHES
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(demo_values, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["search", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def row(shown: str, *beginning: str) -> str:
    """The line that begins with these words."""
    return next(line.strip() for line in shown.splitlines() if line.split()[: len(beginning)] == list(beginning))


def test_a_search_that_has_not_begun_says_how_to_begin_it(project):
    listed = run("list")
    assert row(listed, "mt_estan_loss").split("  ")[-1].strip() == "not begun"
    assert "classification weight, kind, gamma" in listed
    assert row(listed, "width", "mt_estan").split()[-4:] == ["optuna", "3", "not", "begun"]
    shown = run("status", "mt_estan_loss")
    assert "fold 3: no trial of 6 is complete yet" in shown
    assert "18 trials are left: dvc repro search@mt_estan_loss" in shown
    assert "fold 1: no trial of 2 is complete yet" in run("status", "width")  # all of a grid
    assert not (project / "mlflow.db").exists()


def test_a_search_at_work_is_read_from_mlflow(project, empty_store, monkeypatch):
    store = store_in(project, empty_store)
    clock = iter(range(0, 100_000, 60))
    ticking = SimpleNamespace(monotonic=lambda: next(clock), time=time.time)
    monkeypatch.setattr("bus_mlops.tracking.search_runs.time", ticking)
    tell(Ledger(store.model_copy(update={"experiment": "bus-benchmark"})), FAILED, trials=4, end=False)
    monkeypatch.undo()
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "200")
    before = (project / "mlflow.db").read_bytes()
    shown = run("status", "mt_estan_loss")
    assert row(shown, "0").startswith("0   classification weight 3, cross-entropy, positive weight 3  ")
    assert row(shown, "0").split()[-4] == f"{FAILED.trials[0].values[0]:.3f}"
    assert row(shown, "1").split()[-2:] == ["pruned", "0"]
    assert row(shown, "3").split()[-2:] == ["failed", "12"]
    best = max((each for each in FAILED.trials[:3:2]), key=lambda each: each.values[0])
    assert f"fold 1: 3 of 6 trials, best {best.values[0]:.3f} of trial {best.number} (1 failed)" in shown
    assert "fold 3: no trial of 6 is complete yet" in shown
    assert "12 trials are left, about 12 min at 60 s each" in shown
    assert "6 of 18 trials, about 12 min left" in row(run("list"), "mt_estan_loss")
    assert (project / "mlflow.db").read_bytes() == before


def test_a_search_that_has_ended_is_read_from_what_it_left(project):
    write_json(project / "results/search/mt_estan_loss/best.json", FAILED.model_dump(mode="json"))
    shown = run("status", "mt_estan_loss")
    choice = FAILED.choices[0]
    assert row(shown, str(choice.trial)).split()[-4:-1] == ["complete,", "best,", "chosen"]
    assert (
        f"fold 1: trial {choice.trial} was chosen, best minus first +{choice.difference:.3f} ± 0.004: better" in shown
    )
    assert "are left" not in shown
    skipped = {"search": "width", "note": "mt_estan is not there"}
    write_json(project / "results/search/width/best.json", skipped)
    assert "skipped: mt_estan is not there" in row(run("list"), "width")
    assert "ended with 8 trials" in row(run("list"), "mt_estan_loss")


def test_what_is_not_there_or_not_ours_is_named(project, capsys):
    def error(name: str) -> str:
        with pytest.raises(SystemExit), readable_errors():
            run("status", name)
        return capsys.readouterr().err

    assert "no search 'mt_estan' in params.yaml; `searches` has: mt_estan_loss, width" in error("mt_estan")
    write_json(project / "results/search/width/best.json", {"best": None, "note": "of an earlier version"})
    assert "results/search/width/best.json is of another version of bus-mlops" in error("width")
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["searches"] = {}
    values["promotion"]["candidates"] = ["approaches"]
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert "has: none" in error("width")
    assert "docs/how-to/search.md" in run("list")


def test_neither_tensorflow_nor_optuna_is_needed(project):
    code = (
        "import sys; from bus_mlops.cli.app import app; app(['search', 'status', 'width'], standalone_mode=False);"
        "print(sorted({'tensorflow', 'keras', 'optuna', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_search_without_its_networks_has_nothing_to_do():
    plan = SearchPlan(
        name="width", settings=Search.model_validate(SEARCHES["width"]), networks=(), folds=(1, 2), seed=1
    )
    assert status.state_of(plan, None, []).sentence == f"skipped: {plan.missing}"
