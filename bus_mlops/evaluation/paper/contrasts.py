"""Differences between rows of one table, tested over the folds: corrected for shared images and for many tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.comparison import corrected_resampled_test, holm


@dataclass(frozen=True)
class Contrast:
    """One difference (fraction) with its 95 % interval and two-sided p; all but `difference` NaN for one fold.

    `p_adjusted` is Holm's over the contrasts that were made together.
    """

    name: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float


def contrasts(differences: Mapping[str, npt.ArrayLike], test_to_train: float) -> list[Contrast]:
    """The corrected resampled t-test (two-sided) of each named list of differences over (fold, seed), (k,).

    With a single fold nothing can be tested.

    Args:
        differences: By name.
        test_to_train: n_test / n_train of a fold.

    Raises:
        EvaluationError: As in `evaluation.comparison.corrected_resampled_test`.

    Example:
        >>> first, second = contrasts({"a": [0.04, 0.05, 0.06, 0.05], "b": [0.02, -0.02, 0.01, -0.01]}, 0.25)
        >>> round(first.difference, 3), round(first.p, 4), round(first.p_adjusted, 4), round(second.p_adjusted, 2)
        (0.05, 0.0032, 0.0065, 1.0)
    """
    tested = [
        _contrast(name, np.asarray(values, dtype=np.float64), test_to_train) for name, values in differences.items()
    ]
    adjusted = holm([each.p for each in tested])
    return [Contrast(e.name, e.difference, e.low, e.high, e.p, p) for e, p in zip(tested, adjusted, strict=True)]


def _contrast(name: str, values: npt.NDArray[np.float64], test_to_train: float) -> Contrast:
    if values.size == 1:
        return Contrast(name, float(values[0]), *[float("nan")] * 4)
    test = corrected_resampled_test(values, np.zeros_like(values), test_to_train)
    p = 2 * min(test.p_one_sided, 1 - test.p_one_sided)
    # Of two folds the quantile is 12.7: no difference of two shares is beyond 100 points.
    return Contrast(name, test.difference, max(test.low, -1.0), min(test.high, 1.0), p, p)
