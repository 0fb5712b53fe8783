"""What `params.yaml` says about the search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bus_mlops.config.base import MetricName, Strict


class SearchConfig(Strict):
    """Optuna over the candidate network's loss; the objective is read from validation parts only."""

    trials: int = Field(default=20, ge=1)
    folds: tuple[int, ...] = Field(default=(1,), min_length=1, description="whose validation parts are the objective")
    epochs: int | None = Field(default=None, ge=1, description="epochs of a trial; null: as in the network")
    objective: MetricName = Field(default="roc_auc", description="a metric of probabilities, also your own")
    classification_weight: tuple[float, float] = (0.5, 5.0)
    losses: tuple[Literal["cross_entropy", "focal"], ...] = Field(
        default=("cross_entropy", "focal"), min_length=1, description="the kinds of loss that are tried"
    )
    positive_weight: tuple[float, float] = Field(default=(1.0, 5.0), description="of cross_entropy")
    gamma: tuple[float, float] = Field(default=(1.0, 5.0), description="of focal")
    alpha: tuple[float, float] = Field(default=(0.2, 0.9), description="of focal")
