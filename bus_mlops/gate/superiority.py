"""G2, superiority: the primary metric over folds x seeds, corrected for overlapping training parts and for rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bus_mlops.config import PromotionConfig
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.comparison import ResampledTest, corrected_resampled_test
from bus_mlops.evaluation.metrics import classification_metrics
from bus_mlops.evaluation.results import by_cell
from bus_mlops.gate.inputs import CONFIDENCE, GateContext
from bus_mlops.gate.report import GateRule


@dataclass(frozen=True)
class Posterior:
    """Student's t posterior of the mean difference: `better` = P(candidate is better), 0-1."""

    mean: float
    scale: float
    degrees_of_freedom: int
    better: float


def correlated_posterior(candidate: npt.ArrayLike, baseline: npt.ArrayLike, test_to_train: float) -> Posterior:
    """The Bayesian correlated t-test on paired (fold, seed) values (k,), with the usual improper prior.

    The mean difference is Student's t with k - 1 degrees of freedom around d and scale
    sqrt((1/k + rho/(1 - rho)) s^2), rho = n_test/(n_test + n_train) (Corani and Benavoli, A Bayesian approach for
    comparing cross-validated algorithms, Machine Learning 100, 2015, eq. 11). P(better) is one minus the one-sided p
    of the corrected resampled t-test: another reading of the same evidence. Raises EvaluationError.

    >>> posterior = correlated_posterior([0.82, 0.84, 0.83, 0.86, 0.85], [0.80] * 5, test_to_train=0.25)
    >>> round(posterior.mean, 3), round(posterior.better, 4)
    (0.04, 0.9902)
    """
    from scipy import stats

    test = corrected_resampled_test(candidate, baseline, test_to_train)
    differences = np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    rho = test_to_train / (1 + test_to_train)
    scale = float(np.sqrt(1 / test.pairs + rho / (1 - rho)) * differences.std(ddof=1))
    if scale <= 1e-12:  # equal differences, but for rounding
        better = 0.5 if abs(test.difference) <= 1e-12 else float(test.difference > 0)
    else:
        better = float(stats.t.sf(0.0, test.degrees_of_freedom, loc=test.difference, scale=scale))
    return Posterior(test.difference, scale, test.degrees_of_freedom, better)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: below alpha where the hypothesis is rejected at level alpha.

    The smallest of m is multiplied by m, the next by m - 1, and so on, never below its predecessor, never above 1
    (Holm, A simple sequentially rejective multiple test procedure, 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = reached
    return adjusted


def check_superiority(
    candidate: pd.DataFrame,
    baseline: pd.DataFrame,
    promotion: PromotionConfig,
    context: GateContext,
    rivals: Sequence[pd.DataFrame] = (),
) -> GateRule:
    """G2: the metric is higher than the baseline's over (fold, seed); `rivals` compete in the same decision."""
    ours, theirs = (metric_by_cell(frame, promotion.metric) for frame in (candidate, baseline))
    test = _test(ours, theirs, context)
    family = [
        test.p_one_sided,
        *(_test(metric_by_cell(r, promotion.metric), theirs, context).p_one_sided for r in rivals),
    ]
    p = holm(family)[0]
    passed = p < promotion.alpha and test.difference > 0
    values: dict[str, float | int | str] = {
        "candidate": float(np.mean(list(ours.values()))),
        "baseline": float(np.mean(list(theirs.values()))),
        "folds": len({fold for fold, _ in ours}),
        "seeds": len({seed for _, seed in ours}),
        **{key: value for key, value in asdict(test).items() if key != "confidence"},
        "candidates": len(family),
        "p_adjusted": p,
        "p_better": 1 - p,
    }
    if promotion.test == "bayesian":
        limit, found = f"P(better) > {1 - promotion.alpha:g}", f"P(better) = {1 - p:.3f}"
    else:
        limit, found = f"p < {promotion.alpha:g}", f"one-sided p = {p:.3f}"
    seeds = f"{values['seeds']} seed{'' if values['seeds'] == 1 else 's'}"
    sentence = (
        f"{promotion.metric} {values['candidate']:.3f} against {values['baseline']:.3f}: a difference of "
        f"{test.difference:+.3f} (95 % interval {test.low:+.3f} to {test.high:+.3f}) over {values['folds']} folds x "
        f"{seeds} of each, {found}"
        + (f" (Holm, {len(family)} candidates)" if rivals else "")
        + "; "
        + _why(passed, test.difference)
    )
    return GateRule("G2", "superiority", values, limit, passed, sentence)


def metric_by_cell(frame: pd.DataFrame, metric: str) -> dict[tuple[int, int], float]:
    """The metric (fraction) of each (fold, seed) of a test part that has thresholds."""
    return {
        key: classification_metrics(
            cell["label"].to_numpy(), cell["probability"].to_numpy(), cell["threshold"].to_numpy()
        )[metric]
        for key, cell in by_cell(frame)
    }


def _test(
    ours: dict[tuple[int, int], float], theirs: dict[tuple[int, int], float], context: GateContext
) -> ResampledTest:
    if set(ours) != set(theirs):
        raise EvaluationError("the models were not evaluated on the same (fold, seed) pairs")
    cells = sorted(ours)
    unknown = [fold for fold, _ in cells if fold not in context.n_test or fold not in context.n_train]
    if unknown:
        raise EvaluationError(f"the number of training or test images of fold {unknown[0]} is not known")
    ratios = [context.n_test[fold] / context.n_train[fold] for fold, _ in cells]
    return corrected_resampled_test(
        [ours[cell] for cell in cells],
        [theirs[cell] for cell in cells],
        test_to_train=sum(ratios) / len(ratios),
        confidence=CONFIDENCE,
    )


def _why(passed: bool, difference: float) -> str:
    if passed:
        return "more than chance explains."
    return "chance alone could explain it." if difference > 0 else "the candidate is not better."
