"""Who beats whom: every pair of headline rows of a strategy, tested, and read as practically better, equal or worse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.cells import CELL, ROW
from bus_mlops.evaluation.comparison import corrected_resampled_test, holm
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.results import PlannedRow, resampling_ratio
from bus_mlops.evaluation.tidy import Evaluated

if TYPE_CHECKING:
    import pandas as pd

# Two networks whose metric differs by less are the same for practical purposes (fraction).
EQUIVALENCE = 0.01
PAIR_METRICS = ("roc_auc", "balanced_accuracy", "sensitivity")
PAIR_COLUMNS = (
    *("strategy", "model", "variant", "other_model", "other_variant", "metric", "pairs"),
    *("difference", "low", "high", "p", "p_adjusted", "better", "equal", "worse"),
)


def practical_probabilities(
    differences: npt.ArrayLike, test_to_train: float, equivalence: float = EQUIVALENCE
) -> tuple[float, float, float]:
    """P(better), P(equal), P(worse) of the Bayesian correlated t-test with a region of practical equivalence.

    The mean difference has Student's t as its posterior, with k - 1 degrees of freedom and the variance of the
    corrected resampled t-test (Benavoli, Corani, Demsar and Zaffalon, Time for a change, JMLR 18, 2017, section 4.1).

    Args:
        differences: Of the metric (fraction) over (fold, seed), (k,), k at least 2; above 0 is better.
        test_to_train: n_test / n_train of a fold.
        equivalence: Smaller differences count as equal.

    Example:
        >>> better, equal, worse = practical_probabilities([0.03, 0.05, 0.04, 0.02], 0.25)
        >>> round(better, 3), round(equal, 3), round(worse, 3)
        (0.964, 0.028, 0.008)
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    scale = float(values.std(ddof=1) * np.sqrt(1 / values.size + test_to_train))
    mean = float(values.mean())
    if scale <= 1e-12:  # all differ alike: no doubt is left
        return float(mean > equivalence), float(abs(mean) <= equivalence), float(mean < -equivalence)
    posterior = stats.t(values.size - 1, mean, scale)
    worse, not_better = float(posterior.cdf(-equivalence)), float(posterior.cdf(equivalence))
    return 1 - not_better, not_better - worse, worse


def pairwise_table(evaluated: Evaluated) -> pd.DataFrame:
    """A line for each pair of headline rows of a strategy that were trained on the same images, folds and seeds.

    `difference` (fraction) is the first row's metric minus the other's, turned round where lower is better, the mean
    over (fold, seed), with the 95 % interval `low` to `high` and the two-sided p of the corrected resampled t-test;
    `p_adjusted` is Holm's over all pairs of the strategy and metric. `better`, `equal` and `worse` are those of
    `practical_probabilities`. With a single fold nothing can be tested, and there is no line.
    """
    import pandas as pd

    records: list[dict[str, Any]] = []
    cells = {key: frame.set_index(CELL).sort_index() for key, frame in evaluated.by_fold.groupby(ROW)}
    for planned in evaluated.plans.values():
        shown = [row for row in planned if row.classifies and row.headline]
        for metric in PAIR_METRICS:
            records += _adjusted([_pair(*pair, metric, cells, evaluated.folds) for pair in _comparable(shown, cells)])
    return pd.DataFrame.from_records(records, columns=list(PAIR_COLUMNS))


def _comparable(rows: Sequence[PlannedRow], cells: dict[Any, pd.DataFrame]) -> list[tuple[PlannedRow, PlannedRow]]:
    def index(row: PlannedRow) -> pd.Index[Any]:
        return cells[row.strategy, row.model, row.variant].index

    return [
        (first, other)
        for first, other in combinations(rows, 2)
        if first.cohort == other.cohort and len(index(first)) > 1 and index(first).equals(index(other))
    ]


def _pair(
    first: PlannedRow, other: PlannedRow, metric: str, cells: dict[Any, pd.DataFrame], folds: pd.DataFrame
) -> dict[str, Any]:
    values = [cells[row.strategy, row.model, row.variant][metric].to_numpy() for row in (first, other)]
    differences = METRICS[metric].direction * (values[0] - values[1])
    ratio = resampling_ratio(folds, first)
    test = corrected_resampled_test(differences, np.zeros_like(differences), ratio)
    better, equal, worse = practical_probabilities(differences, ratio)
    return {
        "strategy": first.strategy,
        "model": first.model,
        "variant": first.variant,
        "other_model": other.model,
        "other_variant": other.variant,
        "metric": metric,
        "pairs": test.pairs,
        "difference": test.difference,
        # Two shares differ by no more than one.
        "low": max(test.low, -1.0),
        "high": min(test.high, 1.0),
        "p": 2 * min(test.p_one_sided, 1 - test.p_one_sided),
        "better": better,
        "equal": equal,
        "worse": worse,
    }


def _adjusted(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    adjusted = holm([pair["p"] for pair in pairs])
    return [{**pair, "p_adjusted": p} for pair, p in zip(pairs, adjusted, strict=True)]
