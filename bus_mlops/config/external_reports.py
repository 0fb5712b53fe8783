"""What `params.yaml` says about reports on external cohorts: which rows are asked, and how few local cases help."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from bus_mlops.config.base import Strict


class ExternalReports(Strict):
    """Which recorded networks answer for the sources of `cohorts.external`; the shipped model always does."""

    rows: tuple[str, ...] = Field(
        default=("approaches", "multitask", "transfer_learning"),
        description="STRATEGY: its headline rows that name a class; STRATEGY/NETWORK: those of a network there",
    )
    local_cases: tuple[Annotated[int, Field(ge=4)], ...] = Field(
        default=(10, 20, 50, 100),
        description="of an external cohort, to which threshold and calibration are fitted, again and again [cases]",
    )
    draws: int = Field(default=100, ge=20, le=1000, description="how often so many cases are drawn [draws]")

    @model_validator(mode="after")
    def _rows_are_told(self) -> ExternalReports:
        for row in self.rows:
            if "" in row.split("/") or row.count("/") > 1:
                raise ValueError(f"rows must be STRATEGY or STRATEGY/NETWORK but got {row!r}")
        return self
