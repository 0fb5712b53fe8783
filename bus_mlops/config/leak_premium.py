"""What `params.yaml` says about the leak premium: which rows are trained on folds that leak too."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from bus_mlops.config.base import Strict
from bus_mlops.config.data import FoldsConfig


class LeakPremiumConfig(Strict):
    """Rows that are trained once more, on image-level folds of the same images: what the leak adds to their numbers."""

    rows: tuple[str, ...] = Field(
        min_length=1,
        description="STRATEGY/NETWORK: the rows of a network there; STRATEGY/NETWORK/VARIANT: one of them",
    )

    @model_validator(mode="after")
    def _rows_are_told(self) -> LeakPremiumConfig:
        for row in self.rows:
            if "" in row.split("/", 2) or row.count("/") < 1:
                raise ValueError(f"rows must be STRATEGY/NETWORK or STRATEGY/NETWORK/VARIANT but got {row!r}")
        return self

    def require_comparable(self, folds: FoldsConfig) -> None:
        """Raise ValueError where there is nothing that image-level folds could be held against."""
        if folds.kind == "grouped":
            return
        why = {
            "image-level": "these leak already, and would be held against themselves",
            "official": "these leak by themselves, by another count",
            "published": "these leak by themselves, by another count",
            "source": "these test other sources than they train on, which is another question",
            "device": "these test other scanners than they train on, which is another question",
        }[folds.kind]
        raise ValueError(
            f"leak_premium holds grouped folds against image-level ones, and folds.kind is {folds.kind}: {why}. Set "
            "folds.kind to grouped, or leak_premium to {}"
        )


def _off_if_empty(value: Any) -> Any:
    return None if value == {} else value


LeakPremium = Annotated[LeakPremiumConfig | None, BeforeValidator(_off_if_empty)]
