"""The `evaluate` stage: from predictions on disk to tables, findings, metrics.json and the data of the plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation import dvc_plots
from bus_mlops.evaluation.families import compose, with_choice
from bus_mlops.evaluation.paper.absent_rows import name_absent_rows
from bus_mlops.evaluation.paper.findings import find
from bus_mlops.evaluation.paper.small_tumours import small_tumours
from bus_mlops.evaluation.paper.together import together
from bus_mlops.evaluation.results import check_collected, read_curves, read_plans, read_predictions, with_parameters
from bus_mlops.evaluation.tables import fold_table, metrics_summary, strategy_table
from bus_mlops.evaluation.tidy import Evaluated
from bus_mlops.evaluation.tidy_tables import TIDY_TABLES
from bus_mlops.files import replacing, write_json
from bus_mlops.paths import BENCHMARK

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    plans_folder: Path,
    predictions_folder: Path,
    folds_file: Path,
    results: Path,
    incomplete: Mapping[str, str] | None = None,
    benchmark: Path = BENCHMARK,
) -> list[str]:
    """Write tables, `findings.json`, `metrics.json` and `plots/*.csv` under `results`.

    A table is `tables/<strategy>.csv`: a folder, since strategies are parameters and DVC's outputs are not. The plans
    say which rows there must be; predictions of a strategy that is no longer planned are left alone and named.

    Args:
        plans_folder: The plan files.
        predictions_folder: A parquet a strategy.
        folds_file: folds.csv.
        results: Where to write.
        incomplete: As for `strategy_table`.
        benchmark: The folder of the assembled images.

    Returns:
        Lines to print.

    Raises:
        EvaluationError: A planned row, fold or image has no prediction, or a file is not what was collected.
    """
    from threadpoolctl import threadpool_limits

    # Thousands of small products of matrices: threads wait for each other longer than they compute.
    with threadpool_limits(1, user_api="blas"):
        return _evaluated(plans_folder, predictions_folder, folds_file, results, incomplete, benchmark)


def _evaluated(
    plans_folder: Path,
    predictions_folder: Path,
    folds_file: Path,
    results: Path,
    incomplete: Mapping[str, str] | None,
    benchmark: Path,
) -> list[str]:
    import pandas as pd

    plans = read_plans(plans_folder)
    if not folds_file.is_file():
        raise EvaluationError(f"{folds_file} is missing: run `dvc repro folds`.")
    folds = pd.read_csv(folds_file)
    check_collected(predictions_folder, plans)
    predictions = {name: read_predictions(predictions_folder / f"{name}.parquet") for name in plans}
    plans = {
        name: with_choice(predictions[name], with_parameters(rows, predictions_folder)) for name, rows in plans.items()
    }
    predictions = {name: compose(frame, plans[name]) for name, frame in predictions.items()}
    tables = {name: strategy_table(predictions[name], rows, folds, incomplete) for name, rows in plans.items()}
    by_fold = fold_table(predictions, plans)
    evaluated = Evaluated(
        plans, predictions, tables, by_fold, folds, benchmark, results / "probes", results / "premium"
    )
    findings = name_absent_rows(together([*find(plans, by_fold, folds), *small_tumours(evaluated)]), plans_folder)
    for name, table in {**tables, **{name: compute(evaluated) for name, compute in TIDY_TABLES.items()}}.items():
        _write(results / "tables" / f"{name}.csv", table)
    write_json(results / "findings.json", [finding.to_dict() for finding in findings])
    best = dvc_plots.best_row(tables)
    plots = results / "plots"
    _write(plots / "roc.csv", dvc_plots.roc_points(predictions, plans))
    _write(plots / "confusion.csv", dvc_plots.confusion_rows(predictions, best))
    _write(plots / "folds.csv", dvc_plots.fold_rows(by_fold))
    curves = compose(read_curves(predictions_folder, plans), (row for rows in plans.values() for row in rows))
    _write(plots / "curves.csv", dvc_plots.curve_rows(curves))
    write_json(results / "metrics.json", metrics_summary(tables))

    lines = [f"{name}: {len(table)} rows, {int(table['images'].max())} images" for name, table in tables.items()]
    # `tuned` has a plan without rows where nothing was searched.
    planned = {path.stem for path in plans_folder.glob("*.json")}
    unplanned = sorted({path.stem for path in predictions_folder.glob("*.parquet")} - planned)
    lines += [f"note: {name}.parquet belongs to no planned strategy and was not evaluated" for name in unplanned]
    lines += [f"note: {source} is incomplete: {kept}" for source, kept in (incomplete or {}).items()]
    lines += [f"{finding.verdict}: {finding.statement}" for finding in findings]
    return [*lines, f"best ROC AUC: {dvc_plots.row_title(*best)}"] if best else lines


def _write(path: Path, frame: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False)
