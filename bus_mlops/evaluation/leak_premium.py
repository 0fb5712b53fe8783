"""`tables/leak_premium.csv`: what image-level folds, which leak, add to the numbers that grouped folds give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.dataset.folds.leakage import exposed_images, leaking
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.intervals import LARGEST_DEGENERATE_SHARE, FoldDraws, FoldInterval
from bus_mlops.evaluation.resampling import weights_within
from bus_mlops.evaluation.results import (
    PlannedRow,
    check_collected,
    expected_images,
    read_predictions,
    select_row,
)
from bus_mlops.evaluation.tables import BOOTSTRAP_SEED, RESAMPLES
from bus_mlops.evaluation.tidy import Evaluated
from bus_mlops.evaluation.training_variance import TrainingPart

if TYPE_CHECKING:
    import pandas as pd

# What the stage `premium` calls its files.
COLLECTED = "leak-premium"
PREMIUM_METRICS = ("roc_auc", "balanced_accuracy", "sensitivity", "specificity", "dice")
ENDS = ("low", "high")
PREMIUM_COLUMNS = (
    *(*ROW, "metric", "grouped", "grouped_low", "grouped_high", "image_level", "image_level_low", "image_level_high"),
    *("difference", "low", "high", "p", "method"),
    *("folds", "seeds", "images", "groups", "torn_groups", "exposed_images"),
)


@dataclass(frozen=True)
class Premium:
    """A difference (fraction) between two cross-validations of the same images, with its 95 % interval and p."""

    difference: float
    low: float
    high: float
    p: float
    method: str


def premium_table(evaluated: Evaluated) -> pd.DataFrame:
    """A line for each row of `leak_premium` and metric (fractions, at threshold 0.5): both means, and their difference.

    `grouped` and `image_level` are means over folds and seeds, each with its own 95 % interval, that of
    `mean_of_folds_interval`. `difference` (image-level minus grouped) has the interval and the two-sided p of
    `premium`. `torn_groups` counts leakage groups of the row's images that lie in the test part of an image-level fold
    and in the rest of it, `exposed_images` the test images that have such a relative there.

    Raises:
        EvaluationError: What was trained on image-level folds is not what is planned now.
    """
    import pandas as pd

    folder = evaluated.premium
    if not (folder / f"{COLLECTED}.parquet").is_file():
        return pd.DataFrame(columns=list(PREMIUM_COLUMNS))
    check_collected(folder, [COLLECTED])
    leaking_folds = pd.read_csv(folder / "folds.csv")
    trained = read_predictions(folder / f"{COLLECTED}.parquet")
    lines: list[dict[str, Any]] = []
    for key in trained[ROW].drop_duplicates().itertuples(index=False, name=None):
        row = _planned(evaluated, *key)
        grouped = select_row(evaluated.predictions[row.strategy], row.model, row.variant)
        image_level = select_row(trained[trained["strategy"] == row.strategy], row.model, row.variant)
        _require_planned(image_level, row, leaking_folds)
        lines += _lines(row, grouped, image_level, leaking_folds)
    return pd.DataFrame.from_records(lines, columns=list(PREMIUM_COLUMNS))


def premium(
    metrics: tuple[str, ...],
    grouped: pd.DataFrame,
    image_level: pd.DataFrame,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> Iterator[tuple[str, Premium]]:
    """By how much the mean over folds of each metric is greater in image-level folds than in grouped ones.

    The two are paired: leakage groups are drawn within the grouped folds, and the same draw weighs the images in both,
    whatever fold tests them. To that variance, of which cases were collected, comes what trainings differ by in either,
    beyond what images explain: the variance between folds, or between seeds where that is larger. The interval is
    Student's t with Satterthwaite's degrees of freedom; so it covers what other cases, folds and trainings would give.
    It holds for networks trained on as many images as these.

    Args:
        metrics: Names in `METRICS`.
        grouped: Test predictions: image_id, label, probability, group, fold, seed, and columns of masks.
        image_level: The same of other folds.
        resamples: How many.
        seed: Of the draw.
    """
    import pandas as pd

    # An image that only one of them tests, where some folds alone are trained, stands for itself.
    every = pd.concat([grouped, image_level]).drop_duplicates("image_id")
    weights = weights_within(every["fold"], every["group"], resamples, seed)
    places = pd.Series(np.arange(len(every)), index=every["image_id"])
    of_image_level, of_grouped = (FoldDraws.on_draw(frame, places, weights) for frame in (image_level, grouped))
    degrees = float(weights.groups - every["fold"].nunique())
    for metric in metrics:
        yield metric, _paired(metric, of_image_level, of_grouped, weights.groups, degrees)


def in_words(row: str, metric: str, line: Any) -> str:
    """A line of the table as a sentence.

    Args:
        row: Its name.
        metric: What the metric is called.
        line: With difference, low, high (fractions) and p.
    """
    better = "better" if line["difference"] >= 0 else "worse"
    sign = 1 if line["difference"] >= 0 else -1
    low, high = sorted((sign * line["low"], sign * line["high"]))
    if math.isnan(line["low"]):
        return f"Image-level folds make {metric} of {row} look {better} by {_signed(abs(line['difference']))}"
    doubt = "" if line["p"] < 0.05 else "; chance alone could do that"
    size = f"{_signed(abs(line['difference']))} ({_signed(low)} to {_signed(high)})"
    return f"Image-level folds make {metric} of {row} look {better} by {size}{doubt}"


def _signed(fraction: float) -> str:
    """A difference with three digits and its sign.

    >>> _signed(0.0123), _signed(-0.0104)
    ('+.012', '−.010')
    """
    return f"{fraction:+.3f}".replace("0.", ".", 1).replace("-", "−")


def _paired(metric: str, image_level: FoldDraws, grouped: FoldDraws, groups: int, degrees: float) -> Premium:
    sides = (image_level, grouped)
    values = [np.concatenate(found) if (found := side.values(metric)) else np.array([math.nan]) for side in sides]
    difference = float(values[0].mean() - values[1].mean())
    if math.isnan(difference):
        return _unknown(difference, "a fold has no value: too few images of a class")
    if any(cells[0].groups < 2 for side in sides for cells in side.folds):
        return _unknown(difference, "a fold has one group of images only")
    of_image_level, of_grouped = (np.concatenate(side.drawn(metric)).mean(axis=0) for side in sides)
    drawn = of_image_level - of_grouped
    valid = drawn[~np.isnan(drawn)]
    if valid.size < (1 - LARGEST_DEGENERATE_SHARE) * drawn.size:
        return _unknown(difference, "a fold has too few groups of a class")
    images = float(valid.var(ddof=1)) * groups / (groups - 1)
    return _with_interval(difference, images, degrees, [side.trainings(metric) for side in sides])


def _with_interval(difference: float, images: float, degrees: float, parts: list[TrainingPart]) -> Premium:
    from scipy import stats

    # Neither knows its part well: the fewer degrees of freedom count, not the sum.
    both = TrainingPart(
        sum(part.variance for part in parts), min(part.degrees for part in parts), parts[0].between or parts[1].between
    )
    error = math.sqrt(images + both.variance)
    if error > 0:
        at_least = both.at_least(images)
        degrees = (images + at_least) ** 2 / (images**2 / degrees + at_least**2 / both.degrees)
    reach = float(stats.t.ppf(0.975, degrees)) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, degrees)) if error > 0 else float(difference == 0)
    why = f"the variance between {' and '.join(both.between)} of either" if both.between else "trainings as they are"
    # Two shares differ by no more than one.
    low, high = max(difference - reach, -1.0), min(difference + reach, 1.0)
    return Premium(difference, low, high, p, f"the same groups drawn for both; {why}")


def _unknown(difference: float, why: str) -> Premium:
    return Premium(difference, math.nan, math.nan, math.nan, why)


def _lines(
    row: PlannedRow, grouped: pd.DataFrame, image_level: pd.DataFrame, leaking_folds: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    sides = {"grouped": grouped, "image_level": image_level}
    masks = not image_level["dice"].isna().all()
    metrics = tuple(each for each in PREMIUM_METRICS if (masks if each == "dice" else row.classifies))
    alone = {name: FoldDraws.of(frame, resamples=RESAMPLES, seed=BOOTSTRAP_SEED) for name, frame in sides.items()}
    counts = {
        "folds": int(grouped["fold"].nunique()),
        "seeds": int(grouped["seed"].nunique()),
        "images": int(image_level["image_id"].nunique()),
        "groups": int(image_level["group"].nunique()),
        "torn_groups": len(leaking(leaking_folds, sources=row.cohort)),
        "exposed_images": exposed_images(leaking_folds, sources=row.cohort),
    }
    for metric, found in premium(metrics, grouped, image_level):
        means: dict[str, FoldInterval] = {name: draws.interval(metric) for name, draws in alone.items()}
        yield {
            **{name: getattr(row, name) for name in ROW},
            "metric": metric,
            **{name: each.estimate for name, each in means.items()},
            **{f"{name}_{end}": getattr(each, end) for name, each in means.items() for end in ENDS},
            **{name: getattr(found, name) for name in ("difference", "low", "high", "p", "method")},
            **counts,
        }


def _planned(evaluated: Evaluated, strategy: str, model: str, variant: str) -> PlannedRow:
    for row in evaluated.plans.get(strategy, ()):
        if (row.model, row.variant) == (model, variant):
            return row
    raise EvaluationError(
        f"{evaluated.premium} has {model} {variant} of {strategy}, which is not planned now: run `dvc repro premium`."
    )


def _require_planned(part: pd.DataFrame, row: PlannedRow, folds: pd.DataFrame) -> None:
    """Raise EvaluationError unless each fold and seed has predicted exactly its test images."""
    for fold in row.folds:
        expected = expected_images(folds, row.cohort, fold)
        own = part[part["fold"] == fold]
        for seed in row.seeds or own["seed"].unique():
            found = own.loc[own["seed"] == seed, "image_id"]
            if len(found) != len(expected) or set(found) != expected:
                raise EvaluationError(
                    f"{row.strategy}: {row.title}, image-level fold {fold}, seed {seed}: {len(found)} predicted, "
                    f"{len(expected)} expected: run `dvc repro --force premium`; what was trained is not trained again."
                )
