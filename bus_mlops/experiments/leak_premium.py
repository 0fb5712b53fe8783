"""Training the rows whose leak premium is asked for on image-level folds of the same images.

Specs, ledger and runner are the ordinary ones: the digest of the folds is part of a fingerprint, so that these runs are
others than those on grouped folds. They have the tags `leaks` and `folds_kind`, and no tag of a strategy.
"""

from __future__ import annotations

import logging
from pathlib import Path

from bus_mlops.config import Config
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.leakage import check_leakage, describe
from bus_mlops.dataset.folds.make import image_level_folds, write_folds
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.collect import collect_together
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.runner import Runner
from bus_mlops.files import replaced_folder, write_json
from bus_mlops.spec import LedgerKey

LOG = logging.getLogger(__name__)
NAME = "leak-premium"
KIND = "image-level"


def train_on_leaking_folds(config: Config, plans: list[StrategyPlan], folds_file: Path, folder: Path) -> None:
    """Train the missing cells of these rows on image-level folds, and collect their predictions.

    Writes into the folder the folds, `leakage.json` with what leaks, and the four files of `collect` named
    `leak-premium`; without rows it holds `leakage.json`, empty, alone.

    Args:
        config: Of the project, whose folds are grouped.
        plans: Those of `premium_plans`.
        folds_file: folds.csv of the project.
        folder: Its content is replaced.

    Raises:
        CellsFailedError: Names the cells that failed; the others are recorded.
    """
    if not plans:
        with replaced_folder(folder) as partial:
            write_json(partial / "leakage.json", {})
        return
    drawn = image_level_folds(Folds.open(folds_file).frame, config.folds, config.seed)
    write_folds(drawn, KIND, folder)
    checked = check_leakage(Folds.open(folder / "folds.csv"), tolerate=True)
    write_json(folder / "leakage.json", checked)
    LOG.info("%s", describe(checked))
    leaking = config.model_copy(update={"folds": config.folds.model_copy(update={"kind": KIND})})
    with open_runner(leaking, folder / "folds.csv") as runner:
        collect_together(runner, NAME, plans, run_on_leaking_folds(runner, plans), folder)


def run_on_leaking_folds(runner: Runner, plans: list[StrategyPlan]) -> dict[LedgerKey, str]:
    """Train what the ledger does not have of these rows; the run id of every cell."""
    cells: list[Cell] = []
    for plan, row in ((each, row) for each in plans for row in each.rows):
        title = f"{row.model} {row.variant}, {KIND} folds"
        for spec, folds in plan.trainings(row):
            cells += runner.cells(spec, folds, title, {f"leak_premium.{plan.strategy}": title})
    return runner.run(cells, NAME)
