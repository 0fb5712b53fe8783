"""What the gate judges: lineage, context, and out-of-fold predictions at calibrated probabilities and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bus_mlops.config import PromotionConfig
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.results import CELL, by_cell
from bus_mlops.evaluation.roc import youden_threshold
from bus_mlops.gate.calibration import apply_calibration, fit_calibration

CONFIDENCE = 0.95
NO_LEAKS = "0 groups"


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from: digests of its images and folds, what its runs say of leaks and of git.

    `leaks` is the tag of its runs (`0 groups`), `git_clean` yes, no or unknown; where runs differ, the worst.
    """

    data_digest: str
    folds_digest: str
    folds_kind: str = "grouped"
    leaks: str = NO_LEAKS
    git_clean: str = "yes"
    commits: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateContext:
    """What the gate must know besides the predictions.

    `n_train` and `n_test` count the images of each fold (1-based) in the models' cohort; training without the
    validation part. `leak_check` is what the leakage check of the folds finds now: "passed" or anything else.
    """

    model_name: str
    is_phantom: bool
    expected_folds: tuple[int, ...]
    candidate: Lineage
    baseline: Lineage
    n_train: Mapping[int, int]
    n_test: Mapping[int, int]
    leak_check: str
    seed: int = 0


def judged(predictions: pd.DataFrame, promotion: PromotionConfig) -> pd.DataFrame | None:
    """The test part as the packaged model will answer: calibrated probabilities and a column `threshold`.

    Calibration and threshold of each (fold, seed) are chosen on its validation part; None where one has none.
    Raises EvaluationError.
    """
    test = predictions[predictions["part"] == "test"]
    validation = dict(by_cell(predictions[predictions["part"] == "validation"]))
    cells = []
    for key, cell in by_cell(test):
        if key not in validation:
            return None
        known = validation[key]
        labels, raw = known["label"].to_numpy(), known["probability"].to_numpy()
        calibration = fit_calibration(labels, raw)
        threshold = 0.5
        if promotion.threshold == "youden":
            threshold = youden_threshold(labels, apply_calibration(calibration, raw))
        probability = apply_calibration(calibration, cell["probability"].to_numpy())
        cells.append(cell.assign(probability=probability, threshold=threshold))
    return pd.concat(cells)


def judged_together(
    frames: list[pd.DataFrame], promotion: PromotionConfig
) -> tuple[list[pd.DataFrame], str, tuple[str, ...]]:
    """The test parts of models that are to be compared, the kind of threshold in force, and notes.

    All are calibrated or none: where one lacks validation predictions all are judged as they are, at 0.5.
    """
    for frame in frames:
        if frame.empty or not (frame["part"] == "test").any():
            raise EvaluationError("the gate got no test predictions: train candidate and baseline first.")
    ready = [judged(frame, promotion) for frame in frames]
    if all(frame is not None for frame in ready):
        return [frame for frame in ready if frame is not None], promotion.threshold, ()
    raw = [frame[frame["part"] == "test"].assign(threshold=0.5) for frame in frames]
    return raw, "half", ("No validation predictions were given: probabilities are not calibrated, thresholds are 0.5.",)


def paired(candidate: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """One row an image, fold and seed, with the baseline's `probability_baseline` and `threshold_baseline`.

    Raises EvaluationError where one of the two did not predict an image.
    """
    columns = [*CELL, "image_id", "probability", "threshold"]
    pair = candidate.merge(baseline[columns], on=[*CELL, "image_id"], suffixes=("", "_baseline"))
    if len(pair) != len(candidate) or len(pair) != len(baseline):
        raise EvaluationError("the models did not predict the same images")
    return pair


def columns_of(pair: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Labels, both probabilities, groups and both thresholds of a pair, each (N,), as the bootstrap takes them."""
    names = ("label", "probability", "probability_baseline", "group", "threshold", "threshold_baseline")
    return tuple(pair[name].to_numpy() for name in names)
