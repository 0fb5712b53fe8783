"""`bus-mlops plan`: needs nothing but params.yaml, and knows what is done and how long the rest takes."""

from __future__ import annotations

import re
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from bus_mlops.config import Config
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.experiments.digests import digests_of
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.plan_status import describe_plan
from bus_mlops.experiments.progress.forecast import Forecast
from bus_mlops.experiments.progress.grid_state import duration
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.paths import BENCHMARK, FOLDS
from bus_mlops.project import load_config
from bus_mlops.spec import RunSpec
from bus_mlops.tracking.finished import RecordedRun, finished_runs
from bus_mlops.tracking.ledger import Ledger


def as_text(table: Table, notes: list[str]) -> str:
    """A plan as a terminal shows it."""
    console = Console(file=StringIO(), width=120)
    with console.capture() as captured:
        console.print(table)
    return "\n".join([captured.get(), *notes])


def columns(output: str, strategy: str) -> list[str]:
    """Rows, specs, cells, done and time left of one line of the table."""
    line = next(line for line in output.splitlines() if line.startswith(f" {strategy}"))
    return re.split(r"\s{2,}", line.strip())[1:]


def with_store(config: Config, folder: Path) -> Config:
    # By an absolute path: MLflow keeps a store open under its URI, from one test to the next.
    tracking = config.tracking.model_copy(
        update={"uri": f"sqlite:///{folder}/mlflow.db", "artifacts": str(folder / "artifacts")}
    )
    return config.model_copy(update={"tracking": tracking})


def record(config: Config, spec: RunSpec, folds: list[int], speed: float, kind: str = "fold") -> None:
    """Finished runs of a spec, as a worker leaves them, at so many images a second."""
    digests = digests_of(Benchmark.open(BENCHMARK), Folds.open(FOLDS / "folds.csv"), spec.cohort, spec.network)
    fingerprint = spec.fingerprint(*digests)
    ledger = Ledger(config.tracking)
    parent = ledger.parents.find_or_create(spec, fingerprint, "row", {})
    for fold in folds:
        run_id = ledger.start(parent, "row", spec, {"kind": kind, "fingerprint": fingerprint, "fold": str(fold)})
        ledger.finish(run_id, {"images_per_second": speed}, Path("results/plan"), {})


def test_without_a_store_nothing_is_recorded_and_none_is_made(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = as_text(*describe_plan(demo))
    assert columns(shown, "losses") == ["5", "5", "15", "0", "?"]
    assert "no runs recorded yet" in shown
    assert list(tmp_path.iterdir()) == []


def test_recorded_runs_are_counted_and_timed(tiny_project, empty_store, monkeypatch):
    shutil.copy(empty_store, tiny_project)
    monkeypatch.chdir(tiny_project)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    config = with_store(load_config(), tiny_project)
    config = config.model_copy(update={"engine": config.engine.model_copy(update={"workers": None})})
    bce, wbce = (row.spec for row in make_plans(config)["losses"].rows)
    record(config, bce, [1, 2], speed=0.5)
    record(config, wbce, [2], speed=0.5)
    shown = as_text(*describe_plan(config))

    images = int((Folds.open(FOLDS / "folds.csv").parts(1) == "train").sum())
    seconds = images * wbce.training.epochs / 0.5 / 2  # one cell is left; two workers
    assert columns(shown, "losses") == ["2", "2", "4", "3", f"about {duration(seconds)}"]
    assert columns(shown, "approaches")[3:] == ["0", "?"]
    every = columns(shown, "all, each spec once")
    assert every[2] == "3"
    assert every[3].startswith("over ")  # without the networks that never ran, which are named
    assert "never ran: estan (width 0.0625), mobilenet_multitask (upsampling transposed), mt_estan" in shown

    assert len(finished_runs(config.tracking)) == 3
    assert finished_runs(config.tracking.model_copy(update={"experiment": "another"})) == []
    record(config, wbce, [1, 2], speed=0.5, kind="tried")  # a search has it: only the test images are left
    assert columns(as_text(*describe_plan(config)), "losses") == ["2", "2", "4", "3", "no training"]
    (FOLDS / "folds.csv").unlink()
    shown = as_text(*describe_plan(config))
    assert columns(shown, "losses") == ["2", "2", "4", "?", "?"]
    assert "cannot be told: data/folds/folds.csv not found. Run `dvc repro folds`" in shown


def test_a_store_that_cannot_be_read_is_said_beside_the_plan(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_text("no database")
    shown = as_text(*describe_plan(demo))
    assert columns(shown, "losses") == ["5", "5", "15", "?", "?"]
    assert "cannot be told: mlflow.db" in shown
    assert "it is not an SQLite database" in " ".join(shown.split())


def test_a_forecast_takes_the_median_speed_of_network_and_size(demo):
    spec = make_spec(demo, "mobilenet", "all", epochs=10)
    runs = [RecordedRun("f", 1, "mobilenet", 64, speed) for speed in (100, 200, 900)]
    assert Forecast(runs).seconds(spec, 300) == pytest.approx(300 * 10 / 200)
    wide = make_spec(demo, "mobilenet", "all", epochs=10, input_size=128)
    assert Forecast(runs).seconds(wide, 300) == pytest.approx(4 * 300 * 10 / 200)  # four times the pixels
    stepped = make_spec(demo, "mobilenet", "all", epochs=10, steps_per_epoch=200, batch_size=32)
    assert Forecast(runs).seconds(stepped, 773) == pytest.approx(8 * 773 * 10 / 200)  # eight passes an epoch
    assert Forecast(runs).seconds(make_spec(demo, "emt_net", "multitask"), 300) is None
    assert Forecast([RecordedRun("f", 1, "mobilenet", 64, None)]).seconds(spec, 300) is None


def test_options_have_speeds_of_their_own(demo):
    spec = make_spec(demo, "mt_estan", "multitask")
    wide = RecordedRun("f", 1, "mt_estan (encoder mobilenet, width 1.0)", 64, 5)
    same = RecordedRun("f", 1, "mt_estan (encoder mobilenet, width 0.25)", 64, 50)
    assert Forecast([wide]).seconds(spec, 100) is None
    assert Forecast([wide, same]).seconds(spec, 100) == pytest.approx(100 * spec.training.epochs / 50)
