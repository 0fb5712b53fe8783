"""What a package answers, on images that none of the networks behind the answer has seen: the cross-fitted ensemble.

The networks that have not seen an image of a fold's test part are those of that fold, one a seed. Each is calibrated on
its own validation part; their mean is the answer, as a package's is, and the fold's threshold is chosen for that mean
on images that all of them validate. None of it has seen the test part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bus_mlops.consumer.package_format import Calibration, combine
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import CELL, by_cell
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.roc import threshold_at_specificity, youden_threshold
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.spec import CellKey

if TYPE_CHECKING:
    import pandas as pd

# The share of benign images, called so, at which the sensitivities of two models are compared.
SPECIFICITY = 0.9
Threshold = Literal["youden", "half"]
# What answers for a fold: the mean over its networks, or the one that is best on its validation part.
Construction = Literal["ensemble", "single"]


@dataclass(frozen=True)
class Thresholds:
    """Probabilities (0-1) from which on an image is called malignant: of the kind that ships, and at a specificity.

    The second may lie above 1, where only nothing reaches that specificity on the validation part.
    """

    shipped: float
    at_specificity: float


def calibrations_of(predictions: pd.DataFrame) -> dict[CellKey, Calibration] | None:
    """Platt's calibration of the network of each (fold, seed) that has a test part, fitted on its own validation part.

    None where a network has none.

    Raises:
        EvaluationError: A validation part is of one class, or its probabilities are none.
    """
    tested = [key for key, _ in by_cell(predictions[predictions["part"] == "test"])]
    validated = dict(by_cell(predictions[predictions["part"] == "validation"]))
    if any(key not in validated for key in tested):
        return None
    return {
        key: fit_calibration(validated[key]["label"].to_numpy(), validated[key]["probability"].to_numpy())
        for key in tested
    }


def calibrated(rows: pd.DataFrame, calibrations: Mapping[CellKey, Calibration]) -> pd.DataFrame:
    """Rows of networks, fold by fold and seed by seed, with calibrated probabilities."""
    import pandas as pd

    cells = [
        cell.assign(probability=calibrations[key].apply(cell["probability"].to_numpy()))
        for key, cell in by_cell(rows)
        if key in calibrations
    ]
    return pd.concat(cells)


def answered(test: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Calibrated test rows of networks, with what a package answered in the place of what was recorded."""
    keys = [*CELL, "image_id"]
    told = answers.set_index(keys)["probability"]
    now = told.reindex(list(test[keys].itertuples(index=False, name=None))).to_numpy(np.float64)
    return test.assign(probability=np.where(np.isnan(now), test["probability"].to_numpy(np.float64), now))


def ensemble_of(members: pd.DataFrame) -> pd.DataFrame:
    """One row an image and fold, whose probability is the mean over the fold's networks, as a package's answer is.

    Images that not all networks of a fold have predicted are left out; `networks` counts those behind an answer.
    Neither the order of rows nor that of seeds or folds changes anything.

    Args:
        members: One row an image, fold and seed, of one part.
    """
    import pandas as pd

    folds: dict[int, list[pd.DataFrame]] = {}
    for key, cell in by_cell(members):
        folds.setdefault(key.fold, []).append(cell.drop_duplicates("image_id"))
    return pd.concat([_combined(cells) for cells in folds.values()]).drop(columns="seed").reset_index(drop=True)


def _combined(cells: list[pd.DataFrame]) -> pd.DataFrame:
    first = cells[0].sort_values("image_id", kind="stable")
    images = first["image_id"].to_numpy()
    own = [cell.set_index("image_id")["probability"] for cell in cells]
    common = np.logical_and.reduce([np.isin(images, each.index) for each in own])
    answers = np.stack([each.loc[images[common]].to_numpy(np.float64) for each in own])
    return first[common].assign(probability=combine(answers), networks=len(cells))


def thresholds_of(
    validation: pd.DataFrame, kind: Threshold, at_specificity: float = SPECIFICITY
) -> dict[int, Thresholds]:
    """The thresholds of each fold (1-based), chosen for what answers there.

    Args:
        validation: One row an image and fold, as of `ensemble_of`.
        kind: Of the threshold that ships: Youden's, or 0.5.
        at_specificity: The specificity (fraction) that the other one reaches.

    Raises:
        EvaluationError: Of a fold's images all are of one class.
    """
    return {
        int(str(fold)): _thresholds(int(str(fold)), rows, kind, at_specificity)
        for fold, rows in validation.groupby("fold")
    }


def _thresholds(fold: int, rows: pd.DataFrame, kind: Threshold, at_specificity: float) -> Thresholds:
    labels, probabilities = rows["label"].to_numpy(), rows["probability"].to_numpy()
    try:
        shipped = youden_threshold(labels, probabilities) if kind == "youden" else 0.5
        return Thresholds(shipped, threshold_at_specificity(labels, probabilities, at_specificity))
    except EvaluationError as error:
        raise EvaluationError(
            f"no threshold can be chosen for fold {fold} on the {len(rows)} images that all of its networks validate: "
            f"{error}"
        ) from error


def best_networks(predictions: pd.DataFrame, metric: str) -> dict[int, CellKey]:
    """Of each fold the network that is best by a metric on its own validation part; of equals that of the least seed.

    Args:
        predictions: With validation parts.
        metric: By its name; probabilities are taken as they are, at 0.5.
    """
    scores = _by_network(predictions, metric)
    return {fold: max((key for key in scores if key.fold == fold), key=scores.__getitem__) for fold, _ in scores}


def best_network(predictions: pd.DataFrame, metric: str) -> CellKey:
    """The best of `best_networks`; of equals that of the first fold."""
    scores = _by_network(predictions, metric)
    return max(scores, key=scores.__getitem__)


def _by_network(predictions: pd.DataFrame, metric: str) -> dict[CellKey, float]:
    """A metric on each network's validation part, ascending by fold and seed; higher is better."""
    known = METRICS.get_known(metric)
    return {
        key: known.direction * known.value(rows["label"].to_numpy(), rows["probability"].to_numpy())
        for key, rows in by_cell(predictions[predictions["part"] == "validation"])
    }


def validation_score(predictions: pd.DataFrame, metric: str) -> float:
    """How good a model is on its validation parts, to choose between models; higher is better.

    The mean over folds of a metric of what answers there (`ensemble_of`), at 0.5; its negative where a lower value is
    better. Calibrations were fitted on the same images, of every model alike.

    Raises:
        EvaluationError: A network has no validation part.
    """
    known = METRICS.get_known(metric)
    calibrations = calibrations_of(predictions)
    if calibrations is None:
        raise EvaluationError("a network has no predictions of its validation part, by which models are chosen.")
    answers = ensemble_of(calibrated(predictions[predictions["part"] == "validation"], calibrations))
    values = [known.value(r["label"].to_numpy(), r["probability"].to_numpy()) for _, r in answers.groupby("fold")]
    return known.direction * float(np.mean(values))


def of_cells(rows: pd.DataFrame, cells: Iterable[CellKey]) -> pd.DataFrame:
    """The rows of some networks."""
    wanted = set(cells)
    kept = [(int(fold), int(seed)) in wanted for fold, seed in zip(rows["fold"], rows["seed"], strict=True)]
    return rows[np.array(kept, dtype=bool)]
