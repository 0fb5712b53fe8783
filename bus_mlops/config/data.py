"""What `params.yaml` says about images: which sources, how many phantoms, what is left out, which folds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from bus_mlops.config.base import Strict, known


def _registered(name: str, info: ValidationInfo[Any]) -> str:
    registries = known(info)
    if registries is not None and name not in registries.sources:
        raise ValueError(f"must be one of {', '.join(registries.sources)} but got {name!r}")
    return name


SourceName = Annotated[str, AfterValidator(_registered)]
OFFICIAL_FOLDS = 5
# Read with `bus-mlops folds import` and used as they are.
IMPORTED_FOLDS = ("official", "published")


class DataConfig(Strict):
    """Which images are read and how they are prepared."""

    kind: Literal["phantom", "real"] = Field(
        description="drawn images or patients'; a model trained on phantoms is registered under a name that says so"
    )
    root: Path = Field(description="folder that holds one folder per source; read only to the pipeline")
    sources: tuple[SourceName, ...] | Literal["all"] = Field(
        description="the sources to read, each of which must be there; 'all' reads those that are"
    )
    sources_incomplete: Literal["error", "report"] = Field(
        default="error",
        description="images or masks that a source lists and that are not there stop the assembly, or are left out, "
        "counted, and marked in every table",
    )
    color: Literal["gray", "rgb"] = Field(
        default="gray", description="what networks see: one channel, thrice, or three"
    )


class PhantomConfig(Strict):
    """How many synthetic images to draw for each source (0 everywhere: none)."""

    images: dict[SourceName, int] = Field(
        default_factory=dict, description="how many to draw of each source, 0 or more [images]"
    )
    near_duplicates: int = Field(default=0, ge=0, description="planted near-duplicates, in all [images]")
    size: int = Field(default=160, ge=48, le=1024, description="about the long side [pixels]")

    @model_validator(mode="after")
    def _counts(self) -> PhantomConfig:
        for source, n in self.images.items():
            if n < 0:
                raise ValueError(f"phantom.images.{source} must be 0 or more but got {n}")
        return self


class AuditConfig(Strict):
    """What is done about the audit's findings."""

    exclude: Literal["none", "conflicts", "duplicates"] = Field(
        default="none",
        description="what folds and training leave out: nothing, clusters with both labels, or all but one of each",
    )


class FoldsConfig(Strict):
    """Which cross-validation is used, and how.

    kind `grouped`: leakage groups stay whole, stratified by source and label. `official`: the benchmark's own folds,
    and `published`: those of a source's owner, both after `bus-mlops folds import`. `image-level`: at random over
    images, as the released multitask scripts do; leaks. `source`: each source is the test part of one fold, so `count`
    follows from `data.sources`. `device`: each scanner that the sources name is the test part of one fold; `count` says
    how many.
    """

    kind: Literal["grouped", "official", "published", "image-level", "source", "device"] = Field(
        default="grouped",
        description="grouped: leakage groups stay whole; official: the benchmark's own; published: those of a source's "
        "owner; image-level: at random, which leaks; source, device: each source or scanner is tested once by what was "
        "trained on the others",
    )
    count: int = Field(
        default=5,
        ge=2,
        le=10,
        description="how many, of grouped and image-level; of device as many as scanners; official folds are 5, "
        "published ones as many as the table has [folds]",
    )
    validation: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="of the training groups, by which epochs, thresholds and parameters are chosen [fraction]",
    )
    locked: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="of the cases that no fold touches: only a frozen model is judged on them, once [fraction]",
    )
    run: tuple[int, ...] | None = Field(
        default=None, description="train only these folds, counted from 1; null: all [fold numbers]"
    )

    @model_validator(mode="after")
    def _official(self) -> FoldsConfig:
        if self.kind == "official" and self.count != OFFICIAL_FOLDS:
            raise ValueError(f"folds.count must be {OFFICIAL_FOLDS} for the official folds but got {self.count}")
        if self.kind in IMPORTED_FOLDS and self.locked:
            raise ValueError(
                f"folds.locked must be 0 for the {self.kind} folds, which are used as they are, but got "
                f"{self.locked:g}: set folds.kind to grouped, or name a source in cohorts.external"
            )
        return self
