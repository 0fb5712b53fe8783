"""The numbers that a package carries: what ships, measured on images that no network behind an answer had seen."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import JudgedNumber, JudgedNumbers, Package, ScoreBins
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.intervals import bootstrap_interval
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import weights_within
from bus_mlops.gate.calibration_error import calibration_difference
from bus_mlops.gate.comparison import CONFIDENCE, Comparison

if TYPE_CHECKING:
    import pandas as pd

    from bus_mlops.evaluation.intervals import Interval

AT_A_THRESHOLD = ("sensitivity", "specificity")
OF_PROBABILITIES = ("roc_auc", "brier")
METHOD = "pooled over the folds, whole leakage groups drawn; trainings and threshold as they are"


def judged_numbers(comparison: Comparison, members: str, package: Package, answered: int) -> JudgedNumbers:
    """What a comparison says of its candidate, at the threshold that ships and at those of the folds.

    A number that cannot be computed is left out.

    Args:
        comparison: With the package's answers.
        members: `package.members`.
        package: That ships.
        answered: Test images that the package itself was asked about.
    """
    test = comparison.candidate.test
    ships = numbers_at(comparison, test, [*AT_A_THRESHOLD, *OF_PROBABILITIES], package.threshold)
    return JudgedNumbers(
        construction="ensemble" if members == "all" else "single" if members == "one" else "refit",
        images=len(test),
        malignant=int(test["label"].sum()),
        cases=int(test["case_id"].nunique()),
        folds=int(test["fold"].nunique()),
        networks=int(test["networks"].max()),
        ships=len(package.members),
        answered=answered,
        threshold=package.threshold,
        numbers={**ships, **_calibration_error(comparison, test)},
        at_fold_thresholds=numbers_at(comparison, test, AT_A_THRESHOLD, test["threshold"].to_numpy()),
        scores=ScoreBins.of(test.groupby("case_id")["probability"].first()),
        alone=_alone(comparison.candidate.members, package.threshold),
    )


def _alone(members: pd.DataFrame, threshold: float) -> dict[str, float]:
    """What one network answers alone, pooled over folds and averaged over seeds, as `numbers_at` pools means."""
    found = {}
    for name in (*AT_A_THRESHOLD, *OF_PROBABILITIES):
        metric = METRICS.get_known(name)
        with suppress(EvaluationError):
            seeds = [(rows["label"], rows["probability"]) for _, rows in members.groupby("seed")]
            found[name] = float(np.mean([metric.value(*columns, threshold) for columns in seeds]))
    return found


def numbers_at(
    comparison: Comparison, test: pd.DataFrame, names: Sequence[str], threshold: npt.ArrayLike
) -> dict[str, JudgedNumber]:
    """Metrics of judged rows with their intervals; one that cannot be computed is left out.

    Args:
        comparison: For its bootstrap.
        test: One row an image and fold.
        names: In `METRICS`.
        threshold: One, or (N,).
    """
    labels, probabilities, groups = _columns(test)
    found = {}
    for name in names:
        with suppress(EvaluationError):  # the rules say why, and what is not there is no evidence
            found[name] = _number(
                bootstrap_interval(
                    name,
                    labels,
                    probabilities,
                    groups,
                    threshold=threshold,
                    resamples=comparison.resamples,
                    confidence=CONFIDENCE,
                    seed=comparison.seed,
                )
            )
    return found


def _calibration_error(comparison: Comparison, test: pd.DataFrame) -> dict[str, JudgedNumber]:
    labels, probabilities, groups = _columns(test)
    # The difference from probabilities that know the labels, whose own error is 0.
    known = labels.astype(np.float64)
    with suppress(EvaluationError):
        weights = weights_within(test["fold"].to_numpy(), groups, comparison.resamples, comparison.seed)
        interval = calibration_difference(labels, probabilities, known, weights, 0.0, CONFIDENCE)
        return {"calibration_error": _number(interval)}
    return {}


def _columns(test: pd.DataFrame) -> tuple[npt.NDArray[Any], ...]:
    return tuple(test[name].to_numpy() for name in ("label", "probability", "group"))


def _number(interval: Interval) -> JudgedNumber:
    return JudgedNumber(estimate=interval.estimate, low=interval.low, high=interval.high, method=METHOD)
