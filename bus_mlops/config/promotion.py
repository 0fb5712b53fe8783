"""What `params.yaml` says about promotion: the limits of the gate, and what is registered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bus_mlops.config.base import Strict
from bus_mlops.config.data import SourceName


class PromotionConfig(Strict):
    """What a candidate must show before it becomes champion: the limits of the gate's rules G0 to G6.

    Margins and floors are fractions, those of G4 in the metric. The defaults are for models of patients' images.
    """

    candidates: tuple[Literal["tuned", "approaches"], ...] = Field(
        default=("tuned",), min_length=1, description="whose MT-ESTAN wants to be champion; several share alpha (Holm)"
    )
    baseline: str = Field(
        default="champion",
        description="'champion' (for the first one: the best row of `multitask` and `approaches` that is not "
        "MT-ESTAN), 'best' (always that row) or a network",
    )
    threshold: Literal["youden", "half"] = "youden"
    bootstrap: int = Field(default=2000, ge=100, description="resamples of G1, G3, G4 and G5")
    require_clean_git: bool = Field(default=True, description="G0: all runs come from committed code")
    minimum_sensitivity: float = Field(default=0.8, ge=0, le=1, description="G1: of the lower 95 % bound")
    minimum_specificity: float = Field(default=0.7, ge=0, le=1, description="G1: of the lower 95 % bound")
    metric: Literal["roc_auc", "balanced_accuracy", "accuracy", "f1"] = "roc_auc"
    test: Literal["resampled_t", "bayesian"] = Field(default="resampled_t", description="G2")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="G2: p below it, or P(better) above 1 - alpha")
    sensitivity_margin: float = Field(default=0.05, ge=0, lt=1, description="G3: non-inferiority")
    source_margin: float = Field(default=0.05, ge=0, lt=1, description="G4: a source's greatest fall")
    source_margins: dict[SourceName, float] = Field(default_factory=dict, description="G4: sources with their own")
    source_malignant: int = Field(default=30, ge=1, description="G4: fewer malignant cases are reported only")
    calibration_margin: float = Field(default=0.05, ge=0, lt=1, description="G5: of the expected calibration error")
    example_tolerance: float = Field(default=1e-4, gt=0, lt=1, description="G6: of a probability")

    @model_validator(mode="after")
    def _margins(self) -> PromotionConfig:
        for source, margin in self.source_margins.items():
            if not 0 <= margin < 1:
                raise ValueError(f"promotion.source_margins.{source} must be at least 0 and below 1 but got {margin}")
        return self


class PackageConfig(Strict):
    """What is registered of a candidate."""

    members: Literal["all", "one", "refit"] = Field(
        default="all",
        description="the networks of all folds and seeds, the one that is best on its validation part, or one a seed "
        "trained anew on all images, which the gate cannot test",
    )
