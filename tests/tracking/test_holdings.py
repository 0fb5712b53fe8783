"""What the results of a project rest on, compared with what its store holds."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bus_mlops import profiles
from bus_mlops.cli.app import app
from bus_mlops.config import TrackingConfig
from bus_mlops.errors import LedgerError
from bus_mlops.files import read_json, write_json
from bus_mlops.paths import LEDGER, PREDICTIONS, PROMOTION, SEARCH
from bus_mlops.tracking.holdings import find_lost, require_held

RUNS = {"losses": ("1" * 32, "2" * 32), "multitask": ("3" * 32,)}
VERSION = ("tiny", 4)


@pytest.fixture
def project(new_database, tmp_path, monkeypatch) -> Path:
    """The working folder: results of three runs and a decision about a version, all of which the store holds."""
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_bytes(new_database)
    Path("params.yaml").write_text(profiles.text("demo"))
    folder = tmp_path / "mlartifacts"
    with sqlite3.connect("mlflow.db") as database:
        for run in (run for runs in RUNS.values() for run in runs):
            (folder / run / "artifacts").mkdir(parents=True)
            (folder / run / "artifacts" / "predictions.csv").write_text("fold")
            values = (run, "FINISHED", "active", f"{folder.as_uri()}/{run}/artifacts")
            database.execute(
                "insert into runs (run_uuid, status, lifecycle_stage, artifact_uri) values (?, ?, ?, ?)", values
            )
        package = folder / "models/m-1/artifacts"
        package.mkdir(parents=True)
        database.execute("insert into registered_models (name, workspace) values (?, 'default')", VERSION[:1])
        database.execute(
            "insert into model_versions (name, version, workspace, current_stage, storage_location) "
            "values (?, ?, 'default', 'None', ?)",
            (*VERSION, package.as_uri()),
        )
    for strategy, runs in RUNS.items():
        about = {run: {"fold": 1, "files": {"predictions.csv": "0" * 64}} for run in runs}
        write_json(PREDICTIONS / f"{strategy}_runs.json", {"files": {}, "runs": about})
        (PREDICTIONS / f"{strategy}.parquet").write_text("collected")
    write_json(PROMOTION / "promotion.json", {"model": VERSION[0], "version": VERSION[1], "passed": True})
    return tmp_path


def change(statement: str) -> None:
    with sqlite3.connect("mlflow.db") as database:
        assert database.execute(statement).rowcount == 1


def lose_everything() -> None:
    shutil.rmtree("mlartifacts")
    Path("mlflow.db").unlink()


LOSSES: dict[str, tuple[Callable[[], object], set[str], bool]] = {
    "a run is gone": (lambda: change(f"delete from runs where run_uuid = '{'2' * 32}'"), {"losses"}, False),
    "a run was deleted by its id": (
        lambda: change(f"update runs set lifecycle_stage = 'deleted' where run_uuid = '{'3' * 32}'"),
        {"multitask"},
        False,
    ),
    "a run did not end well": (
        lambda: change(f"update runs set status = 'FAILED' where run_uuid = '{'3' * 32}'"),
        {"multitask"},
        False,
    ),
    "a file of a run": (lambda: Path(f"mlartifacts/{'1' * 32}/artifacts/predictions.csv").unlink(), {"losses"}, False),
    "a version": (lambda: change("update model_versions set current_stage = 'Deleted_Internal'"), set(), True),
    "a package": (lambda: shutil.rmtree("mlartifacts/models"), set(), True),
    "all artifacts": (lambda: shutil.rmtree("mlartifacts"), {"losses", "multitask"}, True),
    "everything": (lose_everything, {"losses", "multitask"}, True),
}


@pytest.mark.parametrize("lose", LOSSES)
def test_what_is_lost_is_told_and_given_up_after_a_question(lose, project):
    require_held(TrackingConfig())
    happen, strategies, version = LOSSES[lose]
    happen()
    lost = find_lost(TrackingConfig())
    assert (set(lost.runs), bool(lost.version)) == (strategies, version)
    with pytest.raises(LedgerError, match=r"does not hold.*Bring back the right one.*`bus-mlops repair`"):
        require_held(TrackingConfig())
    assert CliRunner().invoke(app, ["repair"], input="n\n").exit_code == 1
    assert not LEDGER.exists()
    done = CliRunner().invoke(app, ["repair"], input="y\n")
    assert done.exit_code == 0, done.output
    kept = {strategy for strategy in RUNS if (PREDICTIONS / f"{strategy}.parquet").exists()}
    assert kept == set(RUNS) - strategies
    assert not PROMOTION.exists()
    assert read_json(LEDGER)["renewed"]
    require_held(TrackingConfig())


def test_a_search_rests_on_the_runs_of_its_trials(project):
    trials = [{"state": "complete", "runs": ["3" * 32]}, {"state": "failed", "runs": ["4" * 32]}]
    for name, tried in {"widths": trials, "heads": trials[1:], "edited": {}}.items():
        write_json(SEARCH / name / "best.json", {"trials": tried})
    require_held(TrackingConfig())  # a trial that failed has nothing to lose
    change(f"update runs set status = 'FAILED' where run_uuid = '{'3' * 32}'")
    assert find_lost(TrackingConfig()).searches.keys() == {"widths"}
    with pytest.raises(LedgerError, match=r"results/search/widths/best\.json: 1 runs, 3+ is not among the finished"):
        require_held(TrackingConfig())
    assert CliRunner().invoke(app, ["repair", "--yes"]).exit_code == 0
    assert [path.parent.name for path in sorted(SEARCH.glob("*/*"))] == ["edited", "heads"]
    require_held(TrackingConfig())


def test_a_database_that_is_lost_is_set_aside_with_its_artifacts(project):
    Path("mlflow.db").write_bytes(b"garbage")
    with pytest.raises(LedgerError, match="is damaged or lost: it is not an SQLite database"):
        require_held(TrackingConfig())
    done = CliRunner().invoke(app, ["repair", "--yes"])
    assert done.exit_code == 0, done.output
    assert {path.name.rpartition(".damaged-")[0] for path in project.glob("*.damaged-*")} == {
        "mlflow.db",
        "mlartifacts",
    }
    assert list(PREDICTIONS.iterdir()) == []
    require_held(TrackingConfig())


def test_a_project_without_results_and_one_on_a_server_lack_nothing(project):
    shutil.rmtree("results")
    Path("mlflow.db").unlink()
    shutil.rmtree("mlartifacts")
    require_held(TrackingConfig())
    require_held(TrackingConfig(uri="http://away:5000"))
