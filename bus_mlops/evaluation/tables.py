"""One table per strategy from out-of-fold predictions, each row beside the number that the paper prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from bus_mlops.dataset.folds.leakage import BORDERS, leak_counts
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import CELL, ROW, by_cell
from bus_mlops.evaluation.families import CRITERION, in_words
from bus_mlops.evaluation.intervals import FoldDraws, spread
from bus_mlops.evaluation.metrics import (
    METRICS,
    PAPER_METRICS,
    classification_metrics,
    interval_metrics,
    mean_overlaps,
    probability_metrics,
)
from bus_mlops.evaluation.paper.published import contradictions, paper_row
from bus_mlops.evaluation.results import PlannedRow, expected_images, split_rows

if TYPE_CHECKING:
    import pandas as pd

# Fixed, so that a table depends on predictions alone.
RESAMPLES = 2000
BOOTSTRAP_SEED = 0
# Of a metric with an interval: the ends of that of its mean over folds; its value on all test predictions of a row, and
# the ends of that interval.
OF_MEAN, POOLED = ("low", "high"), ("pooled", "pooled_low", "pooled_high")


def strategy_table(
    predictions: pd.DataFrame,
    planned: Iterable[PlannedRow],
    folds: pd.DataFrame | None = None,
    incomplete: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """A row for each planned (model, variant), in the plan's order.

    Ours are fractions: `<metric>_mean` and `<metric>_std` (ddof 1) over (fold, seed) of each of `METRICS`, at threshold
    0.5 as in the paper; where it has intervals, `<metric>_low` and `<metric>_high` are the ends of the mean's 95 %
    interval, whose method stands in `interval`, and `<metric>_pooled` with `<metric>_pooled_low` and
    `<metric>_pooled_high` is the metric of all test predictions together, another quantity. Those of masks are NaN
    where there are none; a segmentation row has only these. Beside them
    `paper_<metric>` (fractions), `difference_<metric>` (ours minus the paper's, percentage points) and
    `contradiction` (how the paper's row contradicts itself). The paper's "AUC" is `paper_balanced_accuracy`.
    A metric that is undefined in a fold has no mean, and `undefined` says in which.
    `leaks` is the number of leakage groups that lie in a test part and in the rest of its fold, `validation_leaks`
    of those in train and validation. Where rows form families (losses), the row that is `chosen` stands for one, and
    `chosen_per_fold` says by which parameters; so it does of a row that a search has tuned, whose `choice` is nested,
    made for each fold on images outside its test part, or flat. A row that differs by fold has several fingerprints.

    Args:
        predictions: Of the strategy.
        planned: Its rows, marked by `families.with_choice`.
        incomplete: Of each source of which files are not there, how many images were kept; the column of this name
            says so in every row that uses the source.
        folds: folds.csv; with it every planned image must have been predicted.

    Raises:
        EvaluationError: A planned row, fold or image has no prediction.
    """
    import pandas as pd

    rows = list(planned)
    kinds = {(row.cohort, _divided_anew(row)) for row in rows}
    torn: dict[tuple[tuple[str, ...], bool], Mapping[Any, float]] = {
        kind: dict.fromkeys(BORDERS, float("nan")) if folds is None else leak_counts(folds, *kind) for kind in kinds
    }
    select = split_rows(predictions)
    records = []
    for row in rows:
        part = select(row)
        check_complete(part, row, folds)
        per_fold = fold_metrics(part, row)
        gaps = "; ".join(f"{name}: {kept}" for name, kept in (incomplete or {}).items() if name in row.cohort)
        identity = {**_identity(row, part), **torn[row.cohort, _divided_anew(row)], "incomplete": gaps}
        records.append(
            {
                **{**identity, "undefined": _undefined(per_fold, row)},
                **{**_over_folds(per_fold), **_intervals(part, row), **_beside_paper(per_fold, row)},
            }
        )
    return pd.DataFrame.from_records(records)


def _divided_anew(row: PlannedRow) -> bool:
    """Whether a row divides anew what its folds train and validate on."""
    return row.training.get("validation") is not None


def fold_metrics(part: pd.DataFrame, row: PlannedRow) -> pd.DataFrame:
    """Every metric (fraction) of each (fold, seed) of one row's test predictions.

    Returns:
        Columns fold, seed, images, `METRICS`: of probabilities (NaN for a segmentation row and where undefined), of
        masks (NaN without them).

    Raises:
        EvaluationError: A cell cannot be measured; names it.
    """
    import pandas as pd

    records = []
    for (fold, seed), cell in by_cell(part):
        try:
            values = (
                classification_metrics(cell["label"].to_numpy(), cell["probability"].to_numpy())
                if row.classifies
                else dict.fromkeys(probability_metrics(), float("nan"))
            )
        except EvaluationError as error:
            raise EvaluationError(f"{row.strategy}: {row.title}, fold {fold}: {error}") from error
        records.append({"fold": fold, "seed": seed, "images": len(cell), **values, **mean_overlaps(cell)})
    return pd.DataFrame.from_records(records)


def fold_table(predictions: Mapping[str, pd.DataFrame], plans: Mapping[str, list[PlannedRow]]) -> pd.DataFrame:
    """`fold_metrics` of every row of every strategy, with its strategy, model and variant in front."""
    import pandas as pd

    frames = []
    for strategy, rows in plans.items():
        select = split_rows(predictions[strategy])
        for row in rows:
            frame = fold_metrics(select(row), row)
            for position, name in enumerate(ROW):
                frame.insert(position, name, getattr(row, name))
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def check_complete(part: pd.DataFrame, row: PlannedRow, folds: pd.DataFrame | None = None) -> None:
    """Raise EvaluationError unless each planned fold and seed (with `folds`: each image) was predicted once."""
    where = f"{row.strategy}: {row.title}"
    if part.empty:
        raise EvaluationError(f"{where} has no predictions: run `dvc repro train@{row.strategy}`.")
    done = {int(fold) for fold in part["fold"].unique()}
    if done != set(row.folds):
        absent, extra = sorted(set(row.folds) - done), sorted(done - set(row.folds))
        what = f"lacks fold {absent[0]}" if absent else f"has fold {extra[0]}, which is not planned"
        raise EvaluationError(
            f"{where} {what} (planned: {', '.join(map(str, row.folds))}): run `dvc repro train@{row.strategy}`."
        )
    recorded = set(part[CELL].itertuples(index=False, name=None))
    for fold, seed in product(row.folds, row.seeds):
        if (fold, seed) not in recorded:
            raise EvaluationError(f"{where} lacks fold {fold} with seed {seed}: run `dvc repro train@{row.strategy}`.")
    if part.duplicated([*CELL, "image_id"]).any():
        image = part.loc[part.duplicated([*CELL, "image_id"]), "image_id"].iloc[0]
        raise EvaluationError(f"{where} predicts image {image!r} twice in one fold: train the strategy again.")
    if folds is None:
        return
    for (fold, _), cell in by_cell(part):
        expected = expected_images(folds, row.cohort, fold)
        found = set(cell["image_id"])
        if found != expected:
            image = min(expected ^ found)
            what = "has no prediction" if image in expected else "is predicted but not in its test part"
            raise EvaluationError(
                f"{where}, fold {fold}: image {image!r} {what} ({len(found)} predicted, {len(expected)} "
                f"expected): run `dvc repro train@{row.strategy}`."
            )


def metrics_summary(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, dict[str, float]]]:
    """Nested {strategy: {"Model variant": {metric: fraction}}} for DVC; six digits, NaN left out."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for strategy, table in tables.items():
        rows = summary.setdefault(strategy, {})
        for record in table.to_dict("records"):
            values = {name: record[f"{name}_mean"] for name in METRICS}
            for name in interval_metrics():
                values |= {f"{name}_{part}": record[f"{name}_{part}"] for part in ("std", *OF_MEAN, *POOLED)}
            values |= {name: record[name] for name in BORDERS}
            known = {name: round(float(value), 6) for name, value in values.items() if value == value}
            rows[f"{record['model']} {record['variant']}"] = known
    return summary


def _identity(row: PlannedRow, part: pd.DataFrame) -> dict[str, Any]:
    return {
        "strategy": row.strategy,
        "model": row.model,
        "variant": row.variant,
        "task": row.task,
        "family": row.family,
        "chosen": row.chosen if row.family else None,
        "choice": row.choice,
        "chosen_per_fold": in_words(row.parameters) if row.parameters else "",
        f"validation_{CRITERION}": row.validation,
        "network": part["network"].iloc[0],
        "fingerprint": ", ".join(dict.fromkeys(part.loc[part["seed"] == part["seed"].min(), "fingerprint"])),
        "folds": int(part["fold"].nunique()),
        "seeds": int(part["seed"].nunique()),
        "images": int(part["image_id"].nunique()),
        "cases": int(part["case_id"].nunique()),
        "groups": int(part["group"].nunique()),
    }


def _undefined(per_fold: pd.DataFrame, row: PlannedRow) -> str:
    """Which metrics of probabilities have no value in which folds, in words."""
    without = {
        name: sorted(set(per_fold.loc[per_fold[name].isna(), "fold"]))
        for name in (probability_metrics() if row.classifies else ())
    }
    known = {name: ", ".join(map(str, folds)) for name, folds in without.items() if folds}
    return "; ".join(f"{name} in fold {folds} ({METRICS[name].undefined})" for name, folds in known.items())


def _over_folds(per_fold: pd.DataFrame) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, metric in METRICS.items():
        # A fold without any lesion mask has no Dice; the others still have theirs.
        numbers = per_fold[name].dropna() if metric.of_masks else per_fold[name]
        known = numbers.size > 0 and bool(numbers.notna().all())
        over = spread(numbers.to_numpy()) if known else None
        values[f"{name}_mean"] = over.mean if over else float("nan")
        values[f"{name}_std"] = over.deviation if over else float("nan")
    return values


def _intervals(part: pd.DataFrame, row: PlannedRow) -> dict[str, Any]:
    """Both intervals of each metric that has them, and how that of the mean was made."""
    values: dict[str, Any] = {"interval": ""}
    by_fold = FoldDraws.of(part, resamples=RESAMPLES, seed=BOOTSTRAP_SEED)
    pooled = FoldDraws.of(part.assign(fold=1, seed=0), resamples=RESAMPLES, seed=BOOTSTRAP_SEED)
    for name in interval_metrics():
        values |= dict.fromkeys((f"{name}_{end}" for end in (*OF_MEAN, *POOLED)), float("nan"))
        if METRICS[name].of_masks or row.classifies:
            of_mean, of_all = by_fold.interval(name), pooled.interval(name, trainings=False)
            ours = (of_mean.low, of_mean.high, of_all.estimate, of_all.low, of_all.high)
            values |= dict(zip((f"{name}_{end}" for end in (*OF_MEAN, *POOLED)), ours, strict=True))
            # Of a row without masks there is none of Dice, which says nothing of the others.
            values["interval"] = values["interval"] or ("" if of_mean.estimate != of_mean.estimate else of_mean.method)
    return values


def _beside_paper(per_fold: pd.DataFrame, row: PlannedRow) -> dict[str, Any]:
    published = paper_row(*row.paper) if row.paper else None
    if row.paper and published is None:
        table, model, variant = row.paper
        raise EvaluationError(f"{row.strategy}: {row.title}: the paper's Table {table} has no row {model} {variant}.")
    values: dict[str, Any] = {"paper_table": row.paper[0] if row.paper else None}
    for name in PAPER_METRICS:
        values[f"paper_{name}"] = published[name] if published else None
    for name in PAPER_METRICS:
        points = 100 * (float(per_fold[name].mean()) - published[name]) if published else None
        values[f"difference_{name}"] = points
    values["contradiction"] = "; ".join(contradictions(*row.paper)) if row.paper else ""
    return values
