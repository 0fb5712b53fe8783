"""What the ledger costs: recording one cell, and planning, resuming and tables with many recorded cells, on SQLite.

    python benchmarks/ledger.py --cells 100 1000 10000

The cells are synthetic: one spec is recorded as a training does it (50 epochs, predictions, a checkpoint), and its
rows are then copied inside the database under other fingerprints. Prints a line for each number of cells: seconds of
wall clock and, in brackets, of this process's CPU, which a busy machine does not change.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bus_mlops.config import Config
from bus_mlops.environment import quiet
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.strategies import Row, make_spec
from bus_mlops.project import load_config
from bus_mlops.spec import RunSpec

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 50
FOLDS = (1, 2, 3, 4, 5)
# The tables of one strategy read about this many cells, whatever else the ledger holds.
STRATEGY = 100


class Cost(NamedTuple):
    """Seconds of wall clock and of CPU."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:6.2f} ({self.cpu:5.2f})"


def main() -> None:
    """Measure each number of cells in a store of its own."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000, 10000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bus-ledger-") as name:
        os.chdir(name)
        make_project()
        print(
            f"{'cells':>6}  {'plan s':>7}  {'resume s':>8}  {'tables s':>8}  {'MB':>6}   one cell recorded, s",
            flush=True,
        )
        for count in arguments.cells:
            measure(load_config(), count)


def make_project() -> None:
    """Assemble a few phantoms in the working folder."""
    import yaml

    from bus_mlops import profiles

    values = yaml.safe_load(profiles.text("demo"))
    values["phantom"] = {"images": {"hmss": 0, "busi": 60, "busis": 0, "thammasat": 0, "dataset_b": 0}, "size": 72}
    values["cohorts"] = {"all": ["busi"], "multitask": ["busi"]}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    for stage in ("plan", "phantom", "assemble", "audit", "folds"):
        command = [sys.executable, str(ROOT / "pipelines" / f"{stage}.py")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(config: Config, count: int) -> None:
    """Record, copy, and time what a driver does with `count` recorded cells."""
    store = Path(f"{count}.db").resolve()
    tracking = config.tracking.model_copy(update={"uri": f"sqlite:///{store}", "artifacts": f"artifacts-{count}"})
    config = config.model_copy(update={"tracking": tracking})
    specs = [varied(make_spec(config, "mobilenet", "all"), number) for number in range(count // len(FOLDS))]
    with open_runner(config) as runner:
        template = runner.cells(specs[0], FOLDS, "title", {})
        recorded = [record(runner, cell) for cell in template]
        runner.ledger.parents.summarise(template[0].parent_run, template[0].fingerprint, FOLDS)
        prints = [spec.fingerprint(*runner.digests(spec)) for spec in specs]
    copy_runs(store, prints[0], prints[1:])

    planning = timed(lambda: run_all(config, specs))
    # A tenth as many new specs: their parent runs are made, and the cells to train are known.
    new = [varied(specs[0], number) for number in range(len(specs), len(specs) + max(1, len(specs) // 10))]
    resuming = timed(lambda: missing(config, [*specs, *new]))
    tables = timed(lambda: collect_strategy(config, specs[: STRATEGY // len(FOLDS)]))
    size = store.stat().st_size / 1e6
    one = Cost(*(statistics.median(values) for values in zip(*recorded, strict=True)))
    print(f"{count:6d}  {planning}  {resuming}  {tables}  {size:6.0f}  {one}", flush=True)


def varied(spec: RunSpec, number: int) -> RunSpec:
    """A spec that computes something else."""
    loss = spec.training.loss.model_copy(update={"positive_weight": 1.0 + number})
    return spec.model_copy(update={"training": spec.training.model_copy(update={"loss": loss})})


def record(runner: Runner, cell: Cell) -> Cost:
    """Record a cell as a worker does, without training; returns what it cost."""
    import numpy as np
    import pandas as pd

    from bus_mlops.tracking.ledger import CURVES, MODEL, PREDICTIONS

    images = runner.benchmark.frame["image_id"]
    columns = dict.fromkeys(("fold", "label", "probability", "dice", "iou"), 0)
    frame = pd.DataFrame({"part": "test", "image_id": images, "case_id": images, "group": images, **columns})
    names = ("loss", "validation_loss", "validation_roc_auc", "seconds")
    tags = {"fingerprint": cell.fingerprint, "fold": str(cell.fold), "data_digest": cell.data_digest}
    ledger = runner.ledger
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / PREDICTIONS, index=False)
        pd.DataFrame({name: np.ones(EPOCHS) for name in names}).to_csv(Path(folder) / CURVES, index=False)
        (Path(folder) / MODEL).write_bytes(np.random.default_rng(0).bytes(13_000_000))  # as large as MobileNet's

        def log() -> None:
            run_id = ledger.start(cell.parent_run, "title", cell.spec, {**tags, "folds_digest": cell.folds_digest})
            for epoch in range(1, EPOCHS + 1):
                ledger.writer.epoch(run_id, epoch, dict.fromkeys(names, 1 / epoch))
            ledger.finish(run_id, {f"metric_{n}": 0.5 for n in range(14)}, Path(folder), {"best_epoch": "1"})

        return timed(log)


def copy_runs(store: Path, template: str, fingerprints: Sequence[str]) -> None:
    """Copy all runs of one fingerprint, with everything that belongs to them, under others."""
    database = sqlite3.connect(store)
    query = "SELECT run_uuid FROM tags WHERE key = 'fingerprint' AND value = ?"
    runs = [row[0] for row in database.execute(query, (template,))]
    for fingerprint in fingerprints:
        names = {run: uuid.uuid4().hex for run in runs} | {template: fingerprint}
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            copy_rows(database, table, "run_uuid", runs, names)
        query = f"SELECT input_uuid FROM inputs WHERE destination_id IN ({marks(runs)})"
        inputs = [row[0] for row in database.execute(query, runs)]
        names |= {each: uuid.uuid4().hex for each in inputs}
        copy_rows(database, "inputs", "input_uuid", inputs, names)
        copy_rows(database, "input_tags", "input_uuid", inputs, names)
    database.commit()
    database.execute("ANALYZE")
    database.close()


def copy_rows(database: sqlite3.Connection, table: str, key: str, values: list[str], names: dict[str, str]) -> None:
    """Insert the rows of these keys again, with every value that has a new name renamed."""
    rows = database.execute(f"SELECT * FROM {table} WHERE {key} IN ({marks(values)})", values).fetchall()
    renamed = [tuple(names.get(v, v) if isinstance(v, str) else v for v in row) for row in rows]
    if renamed:
        database.executemany(f"INSERT INTO {table} VALUES ({marks(renamed[0])})", renamed)


def marks(values: Sequence[Any]) -> str:
    """As many placeholders as there are values."""
    return ", ".join("?" * len(values))


def run_all(config: Config, specs: Sequence[RunSpec]) -> None:
    """What a run of a finished strategy does."""
    with open_runner(config) as runner, silence():
        cells = [cell for spec in specs for cell in runner.cells(spec, FOLDS, "title", {})]
        runner.run(cells, "benchmark")


def missing(config: Config, specs: Sequence[RunSpec]) -> list[Cell]:
    """What a resumed run does before its first training."""
    with open_runner(config) as runner:
        cells = [cell for spec in specs for cell in runner.cells(spec, FOLDS, "title", {})]
        finished = runner.ledger.finished({cell.fingerprint for cell in cells})
        return [cell for cell in cells if cell.key not in finished]


def collect_strategy(config: Config, specs: Sequence[RunSpec]) -> None:
    """Gather the predictions and curves of one strategy for its tables."""
    from bus_mlops.experiments.collect import collect
    from bus_mlops.experiments.runner import plan_cells

    rows = tuple(Row(model="MobileNet", variant=str(n), paper=None, spec=spec) for n, spec in enumerate(specs))
    plan = StrategyPlan(
        strategy="losses",
        order=1,
        title="Losses",
        explanation="Many runs of one network.",
        folds=FOLDS,
        seeds=(config.seed,),
        rows=rows,
    )
    with open_runner(config) as runner, silence():
        collect(runner, plan, runner.run(plan_cells(runner, plan), "losses"), Path("collected"))


def silence() -> Any:
    """Hold back what a run prints."""
    import contextlib
    import io

    return contextlib.redirect_stdout(io.StringIO())


def timed(function: Callable[[], object]) -> Cost:
    """What a call costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    main()
