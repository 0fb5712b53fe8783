"""Which other network is the best by its validation parts: the gate's baseline, and the rival that is probed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bus_mlops.config.promotion import PromotionConfig
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.ensemble import validation_score

if TYPE_CHECKING:
    import pandas as pd


def ranked_rivals(frame: pd.DataFrame, promotion: PromotionConfig) -> dict[str, float]:
    """The networks besides the candidate's as `ranked_on_validation` ranks them: what a baseline is chosen by.

    Args:
        frame: Predictions of all rows of `RIVAL_STRATEGIES` that are there, test and validation parts.
        promotion: Names the candidate's network and the metric.

    Raises:
        EvaluationError: One has no validation part.
    """
    known = frame[frame["probability"].notna()]
    others = sorted(set(known["network"]) - {promotion.candidate_network})
    return ranked_on_validation({network: first_row(known, network) for network in others}, promotion.metric)


def ranked_on_validation(rows: Mapping[str, pd.DataFrame], metric: str) -> dict[str, float]:
    """Network -> its metric (fraction) on the validation parts, the best first, equals by name; never on a test part.

    Raises:
        EvaluationError: One has none.
    """
    scores = {}
    for network, predictions in rows.items():
        try:
            scores[network] = validation_score(predictions, metric)
        except EvaluationError as error:
            raise EvaluationError(
                f"{network} cannot be compared with others as a baseline: {error} Train it anew (`dvc repro`), or name "
                "a network in promotion.baseline."
            ) from error
    direction = METRICS.get_known(metric).direction
    best = sorted(scores, key=lambda network: (-scores[network], network))
    return {network: direction * scores[network] for network in best}


def first_row(frame: pd.DataFrame, network: str) -> pd.DataFrame:
    """The predictions of the first row of a network, which is the one that is judged."""
    rows = frame[frame["network"] == network]
    first = rows[ROW].iloc[0]
    return rows[(rows[ROW] == first).all(axis=1)]
