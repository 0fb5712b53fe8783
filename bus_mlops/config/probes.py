"""What `params.yaml` says about probes: which recorded networks are looked at once more, and on how many images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bus_mlops.config.base import Strict

CANDIDATE, RIVAL = "candidate", "rival"
Corruption = Literal["gain", "contrast", "speckle", "blur", "jpeg", "crop", "marks", "fgsm"]


class ProbesConfig(Strict):
    """Explanations, worst failures and robustness of a few rows, and the cost of every row's network.

    Of each row one network a fold is opened, that of the first seed; it sees the test images of its own fold.
    """

    rows: tuple[str, ...] = Field(
        default=(CANDIDATE, RIVAL),
        description="candidate: those of promotion; rival: the best other approach by its validation parts; or "
        "STRATEGY/NETWORK: the headline rows of a network there",
    )
    images: int | None = Field(
        default=48, ge=2, description="test images of each fold that are corrupted and explained; null: all [images]"
    )
    failures: int = Field(
        default=4,
        ge=0,
        le=20,
        description="most confident misses, and false alarms, of each row, shown with their pictures [images]",
    )
    corruptions: tuple[Corruption, ...] = Field(
        default=("gain", "contrast", "speckle", "blur", "jpeg", "crop", "marks", "fgsm"),
        description="what is done to test images; fgsm follows the network's gradient",
    )
    strengths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.25, 0.5, 1.0),
        min_length=1,
        description="shares of each corruption's greatest strength, ascending [fraction]",
    )
    cost: Literal["all", "probed", "none"] = Field(
        default="all", description="whose parameters, GMAC, latency and memory are measured"
    )

    @model_validator(mode="after")
    def _rows_are_told(self) -> ProbesConfig:
        for row in self.rows:
            if row not in (CANDIDATE, RIVAL) and row.count("/") != 1:
                raise ValueError(f"rows must be {CANDIDATE}, {RIVAL} or STRATEGY/NETWORK but got {row!r}")
        if list(self.strengths) != sorted(set(self.strengths)):
            raise ValueError(f"strengths must ascend but got {list(self.strengths)}")
        return self


def _off_if_empty(value: Any) -> Any:
    return None if value == {} else value


Probes = Annotated[ProbesConfig | None, BeforeValidator(_off_if_empty)]
